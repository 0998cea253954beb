/* What is wrong with model.safetensors.index.json, or between it and the shards.
 * Unless a case says otherwise, a.safetensors holds x and b.safetensors holds y. */
/* clang-format off */
#include "config.h"
#include "tests/malformed/checkpoints/cases.h"

#define AGAIN "; fetch or write the index again"
#define TWO GOOD("a.safetensors", "x"), GOOD("b.safetensors", "y")
#define CASE(name, text, message) {name, 65, INDEX ": " message, NULL, {RAW(INDEX, text, 0), TWO}}
#define MAP(entries) "{'metadata':{},'weight_map':{" entries "}}"
/* Tensor x in a file of this name: the name begins at byte 34. */
#define FILE_NAME(name, file, shown)                                                                     \
    CASE(name, MAP("'x':'" file "'"),                                                              \
         "byte 34: tensor \"x\" is said to be in \"" shown                                             \
         "\", which is no plain name of a .safetensors file beside the index" AGAIN)
#define X "'x':'a.safetensors'"
#define Y "'y':'b.safetensors'"

const bad_case index_cases[] = {
    CASE("index_empty", "", "byte 0: expected '{' of an index, found the end" AGAIN),
    CASE("index_list", "[]", "byte 0: expected '{' of an index, found '['" AGAIN),
    CASE("index_cut", "{'weight_map':{" X, "byte 34: expected ',' or '}' in \"weight_map\", found the end" AGAIN),
    CASE("index_text_behind", MAP(X "," Y) "}", "byte 70: expected nothing after the closing '}', found '}'" AGAIN),
    CASE("index_no_map", "{'metadata':{}}", "byte 0: no \"weight_map\"" AGAIN),
    CASE("index_empty_object", "{}", "byte 0: no \"weight_map\"" AGAIN),
    CASE("index_empty_map", MAP(""), "names no tensor; fetch it again"),
    CASE("index_map_list", "{'weight_map':[]}", "byte 14: expected '{' of \"weight_map\", found '['" AGAIN),
    CASE("index_map_twice", "{'weight_map':{" X "},'weight_map':{}}", "byte 37: \"weight_map\" stands twice" AGAIN),
    CASE("index_metadata_number", "{'metadata':1,'weight_map':{}}", "byte 12: expected '{' of \"metadata\", found '1'" AGAIN),
    CASE("index_metadata_nan", "{'metadata':{'a':NaN},'weight_map':{}}", "byte 17: expected a value, found 'N'" AGAIN),
    CASE("index_metadata_number_01", "{'metadata':{'a':01},'weight_map':{}}", "byte 17: a number that JSON does not have" AGAIN),
    CASE("index_metadata_deep", "{'metadata':{'a':[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
         "byte 80: values nested over 64 deep" AGAIN),
    CASE("index_file_number", MAP("'x':1"), "byte 33: expected a file name in double quotes, found '1'" AGAIN),
    CASE("index_file_list", MAP("'x':['a.safetensors']"), "byte 33: expected a file name in double quotes, found '['" AGAIN),
    CASE("index_file_null", MAP("'x':null"), "byte 33: expected a file name in double quotes, found 'n'" AGAIN),
    CASE("index_bad_utf8", MAP("'\xff':'a.safetensors'"), "byte 30: bad UTF-8 (byte 0xff)" AGAIN),
    CASE("index_name_empty", MAP("'':'a.safetensors'"), "byte 30: an empty name" AGAIN),
    CASE("index_name_twice", MAP(X "," Y "," X), "byte 70: tensor \"x\" stands twice" AGAIN),

    /* names that lead elsewhere */
    FILE_NAME("path_parent", "../a.safetensors", "../a.safetensors"),
    FILE_NAME("path_parent_deep", "../../../etc/a.safetensors", "../../../etc/a.safetensors"),
    FILE_NAME("path_absolute", "/etc/a.safetensors", "/etc/a.safetensors"),
    FILE_NAME("path_subfolder", "sub/a.safetensors", "sub/a.safetensors"),
    FILE_NAME("path_here", "./a.safetensors", "./a.safetensors"),
    FILE_NAME("path_escaped_slash", "..\\u002fa.safetensors", "../a.safetensors"),
    FILE_NAME("path_json_slash", "..\\/a.safetensors", "../a.safetensors"),
    FILE_NAME("path_backslash", "..\\\\a.safetensors", "..\\a.safetensors"),
    FILE_NAME("path_dots", "..", ".."),
    FILE_NAME("path_dot", ".", "."),
    FILE_NAME("path_hidden", ".a.safetensors", ".a.safetensors"),
    FILE_NAME("path_ending_only", ".safetensors", ".safetensors"),
    FILE_NAME("path_other_ending", "a.bin", "a.bin"),
    FILE_NAME("path_passwd", "/etc/passwd", "/etc/passwd"),
    FILE_NAME("path_upper_case", "a.SAFETENSORS", "a.SAFETENSORS"),
    CASE("path_nul", MAP("'x':'a.safetensors\\u0000.safetensors'"), "byte 34: control character 0x00 in a name" AGAIN),
    CASE("path_empty", MAP("'x':''"), "byte 34: an empty name" AGAIN),
    CASE("path_newline", MAP("'x':'a\\n.safetensors'"), "byte 34: control character 0x0a in a name" AGAIN),

    /* index and shards */
    CASE("tensor_in_no_shard", MAP(X "," Y ",'z':'b.safetensors'"),
         "tensor \"z\" is said to be in b.safetensors, which does not have it; fetch both again"),
    CASE("tensor_in_wrong_shard", MAP("'x':'b.safetensors','y':'a.safetensors'"),
         "tensor \"x\" is said to be in b.safetensors, but is in a.safetensors; fetch the index again"),
    {"tensor_not_in_index", 65, "b.safetensors: tensor \"y\" is not in " INDEX "; fetch both again", NULL,
     {RAW(INDEX, MAP(X ",'e':'b.safetensors'"), 0), GOOD("a.safetensors", "x"),
      SHARD("b.safetensors", "{'e':{'dtype':'U8','shape':[0],'data_offsets':[0,0]}," FOUR("y") "}", 4)}},
    {"tensor_in_two_shards", 65,
     "b.safetensors: byte 10: tensor \"x\" is in a.safetensors too; fetch or write the file again", NULL,
     {RAW(INDEX, MAP(X "," Y), 0), GOOD("a.safetensors", "x"), GOOD("b.safetensors", "x")}},
    {"shard_missing", 66, "b.safetensors: no such file; fetch it, or the whole folder again", NULL,
     {RAW(INDEX, MAP(X "," Y), 0), GOOD("a.safetensors", "x")}},
    {"shard_malformed", 65,
     "b.safetensors: the tensors end at data byte 4, the file at 9; fetch or write the file again", NULL,
     {RAW(INDEX, MAP(X "," Y), 0), GOOD("a.safetensors", "x"), SHARD("b.safetensors", "{" FOUR("y") "}", 9)}},
    {"shard_not_in_index", 65,
     "model-00002-of-00002.safetensors: a shard that " INDEX
     " does not name; fetch the index again, or move the shard away",
     NULL,
     {RAW(INDEX, MAP("'x':'model-00001-of-00002.safetensors'"), 0),
      GOOD("model-00001-of-00002.safetensors", "x"), GOOD("model-00002-of-00002.safetensors", "y")}},
    {"index_too_large", 65, INDEX ": has 536870913 bytes, 536870912 are allowed; fetch the file again", NULL,
     {RAW(INDEX, "{", 536870913), TWO}},
    {.name = NULL},
};
