/* What is wrong with the folder: its files, its links, its config.json, the path itself.  The
 * last cases are well-formed and must be taken. */
/* clang-format off */
#include "config.h"
#include "tests/malformed/checkpoints/cases.h"

#define CONFIG(name, text, message)                                                                \
    {name, 65, "config.json: " message, NULL, {GOOD(MODEL, "x"), RAW("config.json", text, 0)}}
#define FIX "; correct it or fetch it again"
#define OUTSIDE                                                                                    \
    MODEL ": a symbolic link out of its folder, which is not followed; put the file itself there, " \
          "or give the folder that holds it"
#define NOT_REGULAR(kind) MODEL ": is " kind ", not a regular file; put the file itself there"
#define DEEP(x) x x x x x x x x x x x x x x x x
#define GIVE "; give the folder of a checkpoint"

const bad_case folder_cases[] = {
    /* config.json */
    CONFIG("config_empty", "", "line 1: ends in the middle" FIX),
    CONFIG("config_cut", "{'a': [1, 2", "line 1: ends in the middle" FIX),
    CONFIG("config_no_json", "model_type: mixtral\n", "line 1: is no JSON, near 'model'" FIX),
    CONFIG("config_list", "[1]", "is no JSON object; fetch it again"),
    CONFIG("config_key_twice", "{\n 'a': 1,\n 'a': 2\n}", "line 3: a key stands twice, near '\"a\"'" FIX),
    CONFIG("config_text_behind", "{} {}", "line 1: text after the last value, near '{'" FIX),
    CONFIG("config_bad_utf8", "{'a': '\xff'}", "line 1: bad UTF-8, near '\"'" FIX),
    CONFIG("config_nul", "{'a': 'b\\u0000'}", "line 1: a NUL in a string, near '\"b\\u0000\"'" FIX),
    CONFIG("config_nul_beside_nan", "{'a': 'b\\u0000', 'b': NaN}", "a NUL in a string" FIX),
    CONFIG("config_number", "{'a': 01}", "line 1: is no JSON, near '0'" FIX),
    CONFIG("config_number_large", "{'a': 1e999}", "line 1: a number too large, near '1e999'" FIX),
    CONFIG("config_python_none", "{'a': None}", "line 1: is no JSON, near 'None'" FIX),
    CONFIG("config_deep", DEEP(DEEP(DEEP("["))), "line 1: values are nested too deep, near '['" FIX),
    {"config_too_large", 65, "config.json: has 16777217 bytes, 16777216 are allowed; fetch the file again", NULL,
     {GOOD(MODEL, "x"), RAW("config.json", "{", 16777217)}},
    {"config_is_folder", 65, "config.json: is a folder, not a regular file; put the file itself there", NULL,
     {GOOD(MODEL, "x"), FOLDER("config.json")}},

    /* what is no regular file */
    {"shard_is_fifo", 65, NOT_REGULAR("a named pipe"), NULL, {FIFO(MODEL)}},
    {"shard_is_folder", 65, NOT_REGULAR("a folder"), NULL, {FOLDER(MODEL)}},
    {"link_to_nothing", 66, MODEL ": a symbolic link to nothing; fetch the file again", NULL, {LINK(MODEL, "gone")}},
    {"link_out", 65, OUTSIDE, NULL, {GOOD("../outside.safetensors", "x"), LINK(MODEL, "../outside.safetensors")}},
    {"link_absolute", 65, OUTSIDE, NULL, {LINK(MODEL, "/etc/hostname")}},
    {"link_to_device", 65, OUTSIDE, NULL, {LINK(MODEL, "/dev/zero")}},
    {"link_to_itself", 65, OUTSIDE, NULL, {LINK(MODEL, MODEL)}},
    {"link_to_link_out", 65, OUTSIDE, NULL, {LINK("l", "/etc/hostname"), LINK(MODEL, "l")}},
    {"link_to_fifo_beside", 65, NOT_REGULAR("a named pipe"), NULL, {FIFO("p"), LINK(MODEL, "p")}},
    {"link_blobs_without_cache", 65, OUTSIDE, "a/b",
     {FOLDER("a"), FOLDER("a/b"), FOLDER("blobs"), GOOD("blobs/0", "x"), LINK("a/b/" MODEL, "../../blobs/0")}},
    {"link_cache_past_blobs", 65, OUTSIDE, "snapshots/1",
     {FOLDER("snapshots"), FOLDER("snapshots/1"), FOLDER("blobs"), GOOD("0", "x"),
      LINK("snapshots/1/" MODEL, "../../blobs/../0")}},
    {"link_cache_chain", 65, OUTSIDE, "snapshots/1",
     {FOLDER("snapshots"), FOLDER("snapshots/1"), FOLDER("blobs"), LINK("blobs/0", "/etc/hostname"),
      LINK("snapshots/1/" MODEL, "../../blobs/0")}},
    {"link_cache_dangling", 66, MODEL ": a symbolic link to nothing; fetch the file again", "snapshots/1",
     {FOLDER("snapshots"), FOLDER("snapshots/1"), FOLDER("blobs"), LINK("snapshots/1/" MODEL, "../../blobs/0")}},

    /* the path */
    {"path_missing", 66, "path_missing/nothing: no such folder; if this is a name on the hub, fetch it first: "
                         "hf download path_missing/nothing --local-dir FOLDER", "nothing", {FOLDER("x")}},
    {"path_missing_deep", 66, "path_missing_deep/a/b: no such folder" GIVE, "a/b", {FOLDER("x")}},
    {"path_is_file", 66, "path_is_file/" MODEL ": is a file; give the folder that holds it", MODEL, {GOOD(MODEL, "x")}},
    {"path_is_fifo", 66, "path_is_fifo/p: is no folder" GIVE, "p", {FIFO("p")}},
    {"folder_empty", 66, "folder_empty: no .safetensors file in this folder" GIVE, NULL, {{STEP_END, NULL, NULL, 0, 0}}},
    {"folder_of_pickles", 66, "folder_of_pickles: holds pickled weights (pytorch_model.bin), which are not read; save "
                              "them as safetensors first (transformers: from_pretrained, then save_pretrained)", NULL,
     {RAW("pytorch_model.bin", "x", 0)}},
    {"folder_of_gguf", 66, "folder_of_gguf: holds GGUF (m.gguf), which is not read; fetch the safetensors checkpoint it "
                           "was made from", NULL, {RAW("m.gguf", "GGUF", 0)}},
    {"folder_of_hub_cache", 66, "folder_of_hub_cache: is a whole repository of the hub cache; give "
                                "folder_of_hub_cache/snapshots/REVISION", NULL, {FOLDER("snapshots"), FOLDER("blobs")}},
    {"two_files_no_index", 66, "two_files_no_index: 2 .safetensors files and no " INDEX
                               "; fetch the index, or leave one file alone in the folder", NULL,
     {GOOD("a.safetensors", "x"), GOOD("b.safetensors", "y")}},
    {"one_shard_no_index", 66, "one_shard_no_index: model-00001-of-00002.safetensors is one of several shards, and there "
                               "is no " INDEX "; fetch the rest of the checkpoint", NULL,
     {GOOD("model-00001-of-00002.safetensors", "x")}},

    /* to be taken */
    {"good_single", 0, "", NULL, {GOOD(MODEL, "x"), RAW("config.json", "{'a': Infinity}", 0)}},
    {"good_other_name", 0, "", NULL, {GOOD("weights.safetensors", "x")}},
    {"good_one_of_one", 0, "", NULL, {GOOD("model-00001-of-00001.safetensors", "x")}},
    {"good_beside_others", 0, "", NULL, {GOOD(MODEL, "x"), GOOD("reference.safetensors", "x"), RAW("a.bin", "x", 0)}},
    {"good_link_beside", 0, "", NULL, {GOOD("w", "x"), LINK(MODEL, "w")}},
    {"good_hub_cache", 0, "", "snapshots/1",
     {FOLDER("snapshots"), FOLDER("snapshots/1"), FOLDER("blobs"), GOOD("blobs/0", "x"),
      LINK("snapshots/1/" MODEL, "../../blobs/0")}},
    {"good_index", 0, "", NULL,
     {RAW(INDEX, "{'weight_map':{'x':'a.safetensors','\\u00e4':'b.safetensors'}, 'extra': [1.5e-3, {'a': null}]}\n", 0),
      GOOD("a.safetensors", "x"), GOOD("b.safetensors", "\xc3\xa4")}},
    {"good_header_spaces", 0, "", NULL, {SHARD(MODEL, "{ " FOUR("x") " }   \n", 4)}},
    {"good_no_tensors", 0, "", NULL, {SHARD(MODEL, "{}", 0)}},
    {"good_empty_tensors", 0, "", NULL,
     {SHARD(MODEL, "{" FOUR("x") ",'e':{'dtype':'F4','shape':[0,7],'data_offsets':[0,0]},"
                   "'f':{'data_offsets':[4,4],'shape':[0],'dtype':'F32'}}", 4)}},
    {"good_any_order", 0, "", NULL,
     {SHARD(MODEL, "{'b':{'dtype':'U8','shape':[4],'data_offsets':[4,8]}," FOUR("a") "}", 8)}},
    {"good_pair", 0, "", NULL, {SHARD(MODEL, "{" FOUR("\\ud83d\\ude00 \\u00e4\\/") "}", 4)}},
    {.name = NULL},
};
