/* What is wrong with the numbers of one safetensors file. */
/* clang-format off */
#include "config.h"
#include "tests/malformed/checkpoints/cases.h"

#define AGAIN "; fetch or write the file again"
#define HEADER(name, text, size, message)                                                          \
    {name, 65, "model.safetensors: " message AGAIN, NULL, {SHARD(MODEL, text, size)}}
#define FILE_OF(name, bytes, size, message)                                                        \
    {name, 65, "model.safetensors: " message, NULL, {RAW(MODEL, bytes, size)}}
#define TENSOR(fields) "{'x':{" fields "}}"

const bad_case header_cases[] = {
    /* the eight bytes */
    FILE_OF("file_empty", "", 0, "has 0 bytes, fewer than the 8 of its header's length" AGAIN),
    FILE_OF("file_1_byte", "\2", 1, "has 1 bytes, fewer than the 8 of its header's length" AGAIN),
    FILE_OF("file_7_bytes", "\2\0\0\0\0\0\0", 7, "has 7 bytes, fewer than the 8 of its header's length" AGAIN),
    FILE_OF("file_8_bytes", "\2\0\0\0\0\0\0\0", 8, "byte 0: a header of 2 bytes in a file of 8" AGAIN),
    FILE_OF("length_zero", "\0\0\0\0\0\0\0\0", 8, "byte 8: expected a header that begins with '{', found the end" AGAIN),
    FILE_OF("length_one_past_end", "\3\0\0\0\0\0\0\0{}", 10, "byte 0: a header of 3 bytes in a file of 10" AGAIN),
    FILE_OF("length_over_cap", "\1\xe1\xf5\5\0\0\0\0{}", 200000000,
            "byte 0: a header of 100000001 bytes, 100000000 are allowed; is this safetensors? fetch or write the file again"),
    FILE_OF("length_2_63", "\0\0\0\0\0\0\0\200{}", 10,
            "byte 0: a header of 9223372036854775808 bytes, 100000000 are allowed; is this safetensors? fetch or write the file again"),
    FILE_OF("length_all_ones", "\377\377\377\377\377\377\377\377{}", 10,
            "byte 0: a header of 18446744073709551615 bytes, 100000000 are allowed; is this safetensors? fetch or write the file again"),
    FILE_OF("length_big_endian", "\0\0\0\0\0\0\0\2{}", 10,
            "byte 0: a header of 144115188075855872 bytes, 100000000 are allowed; is this safetensors? fetch or write the file again"),
    FILE_OF("lfs_pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 0,
            "a Git LFS pointer in place of the weights; run git lfs pull"),
    FILE_OF("pickle", "PK\3\4\0\0\10\10\0\0\0\0\0\0\0\0\0\0", 64,
            "byte 0: a header of 578712552184433488 bytes, 100000000 are allowed; is this safetensors? fetch or write the file again"),

    /* where tensors lie */
    HEADER("hole_in_front", "{'x':{'dtype':'U8','shape':[4],'data_offsets':[4,8]}}", 8,
           "byte 10: tensor \"x\" begins at data byte 4, a hole from byte 0"),
    HEADER("hole_between", "{" FOUR("x") ",'y':{'dtype':'U8','shape':[4],'data_offsets':[5,9]}}", 9,
           "byte 62: tensor \"y\" begins at data byte 5, a hole from byte 4"),
    HEADER("overlap_by_one", "{" FOUR("x") ",'y':{'dtype':'U8','shape':[4],'data_offsets':[3,7]}}", 7,
           "byte 62: tensor \"y\" begins at data byte 3, overlapping what ends at byte 4"),
    HEADER("overlap_same_bytes", "{" FOUR("x") "," FOUR("y") "}", 4,
           "byte 62: tensor \"y\" begins at data byte 0, overlapping what ends at byte 4"),
    HEADER("overlap_descending", "{'x':{'dtype':'U8','shape':[4],'data_offsets':[3,7]}," FOUR("y") "}", 7,
           "byte 10: tensor \"x\" begins at data byte 3, overlapping what ends at byte 4"),
    HEADER("empty_tensor_inside", "{" FOUR("x") ",'e':{'dtype':'U8','shape':[0],'data_offsets':[2,2]}}", 4,
           "byte 62: tensor \"e\" begins at data byte 2, overlapping what ends at byte 4"),
    HEADER("trailing_byte", "{" FOUR("x") "}", 5, "the tensors end at data byte 4, the file at 5"),
    HEADER("trailing_data_without_tensors", "{}", 3, "the tensors end at data byte 0, the file at 3"),
    HEADER("data_cut_by_one", "{" FOUR("x") "}", 3, "byte 57: tensor \"x\" ends at data byte 4, the file holds 3"),
    HEADER("end_before_begin", TENSOR("'dtype':'U8','shape':[4],'data_offsets':[4,0]"), 4,
           "byte 57: tensor \"x\" ends before it begins"),
    HEADER("end_2_64_minus_1", TENSOR("'dtype':'U8','shape':[4],'data_offsets':[0,18446744073709551615]"), 4,
           "byte 57: tensor \"x\" ends at data byte 18446744073709551615, the file holds 4"),

    /* shapes and types */
    HEADER("size_too_small", TENSOR("'dtype':'BF16','shape':[4],'data_offsets':[0,4]"), 4,
           "byte 10: tensor \"x\" spans 4 bytes, its shape of BF16 needs 8"),
    HEADER("size_too_large", TENSOR("'dtype':'U8','shape':[3],'data_offsets':[0,4]"), 4,
           "byte 10: tensor \"x\" spans 4 bytes, its shape of U8 needs 3"),
    HEADER("scalar_of_wrong_size", TENSOR("'dtype':'F32','shape':[],'data_offsets':[0,2]"), 2,
           "byte 10: tensor \"x\" spans 2 bytes, its shape of F32 needs 4"),
    HEADER("zero_dimension_with_bytes", TENSOR("'dtype':'U8','shape':[4,0],'data_offsets':[0,4]"), 4,
           "byte 10: tensor \"x\" spans 4 bytes, its shape of U8 needs 0"),
    HEADER("f4_odd", TENSOR("'dtype':'F4','shape':[3],'data_offsets':[0,1]"), 1,
           "byte 10: tensor \"x\" is 12 bits of F4, no whole bytes"),
    HEADER("f6_odd", TENSOR("'dtype':'F6_E2M3','shape':[3],'data_offsets':[0,2]"), 2,
           "byte 10: tensor \"x\" is 18 bits of F6_E2M3, no whole bytes"),
    HEADER("overflow_before_zero", TENSOR("'dtype':'U8','shape':[9223372036854775808,4,0],'data_offsets':[0,0]"), 0,
           "byte 10: the shape of tensor \"x\" times U8 overflows"),
    HEADER("overflow_to_zero", TENSOR("'dtype':'U8','shape':[4294967296,4294967296],'data_offsets':[0,0]"), 0,
           "byte 10: the shape of tensor \"x\" times U8 overflows"),
    HEADER("rank_9", TENSOR("'dtype':'U8','shape':[1,1,1,1,1,1,1,1,1],'data_offsets':[0,1]"), 1,
           "byte 52: tensor \"x\" has over 8 dimensions"),
    HEADER("dtype_unknown", TENSOR("'dtype':'FP8','shape':[4],'data_offsets':[0,4]"), 4,
           "byte 23: unknown dtype \"FP8\" of tensor \"x\""),
    HEADER("dtype_lower_case", TENSOR("'dtype':'bf16','shape':[2],'data_offsets':[0,4]"), 4,
           "byte 23: unknown dtype \"bf16\" of tensor \"x\""),
    HEADER("dtype_empty", TENSOR("'dtype':'','shape':[2],'data_offsets':[0,4]"), 4,
           "byte 23: unknown dtype \"\" of tensor \"x\""),
    HEADER("dtype_with_nul", TENSOR("'dtype':'U8\\u0000','shape':[4],'data_offsets':[0,4]"), 4,
           "byte 23: unknown dtype \"U8\" of tensor \"x\""),

    /* two of a name */
    HEADER("duplicate_tensor", "{" FOUR("x") ",'x':{'dtype':'U8','shape':[4],'data_offsets':[4,8]}}", 8,
           "byte 62: tensor \"x\" stands twice"),
    HEADER("duplicate_by_escape", "{" FOUR("x") ",'\\u0078':{'dtype':'U8','shape':[4],'data_offsets':[4,8]}}", 8,
           "byte 62: tensor \"x\" stands twice"),
    {.name = NULL},
};
