/* What is wrong with the text of a safetensors header. */
/* clang-format off */
#include "config.h"
#include "tests/malformed/checkpoints/cases.h"

#define HEADER(name, text, message)                                                                \
    {name, 65, "model.safetensors: " message "; fetch or write the file again", NULL, {SHARD(MODEL, text, 4)}}
#define NAMED(x) "{'" x "':{'dtype':'U8','shape':[4],'data_offsets':[0,4]}}"
#define TENSOR(fields) "{'x':{" fields "}}"
#define META(map) "{'__metadata__':" map "," FOUR("x") "}"
#define TEN(x) x x x x x x x x x x

const bad_case grammar_cases[] = {
    HEADER("begins_with_space", " {" FOUR("x") "}", "byte 8: expected a header that begins with '{', found ' '"),
    HEADER("begins_with_bracket", "[]", "byte 8: expected a header that begins with '{', found '['"),
    HEADER("begins_with_bom", "\xef\xbb\xbf{}", "byte 8: expected a header that begins with '{', found byte 0xef"),
    HEADER("unclosed", "{" FOUR("x"), "byte 60: expected ',' or '}' after a tensor, found the end"),
    HEADER("text_behind", "{" FOUR("x") "}x", "byte 61: expected nothing after the closing '}', found 'x'"),
    HEADER("nul_padding", "{" FOUR("x") "}\0\0", "byte 61: expected nothing after the closing '}', found byte 0x00"),
    HEADER("second_header", "{" FOUR("x") "}{}", "byte 61: expected nothing after the closing '}', found '{'"),
    HEADER("comma_behind_last", "{" FOUR("x") ",}", "byte 61: expected a tensor name in double quotes, found '}'"),
    HEADER("comma_missing", "{" FOUR("x") FOUR("y") "}", "byte 60: expected ',' or '}' after a tensor, found '\"'"),
    HEADER("colon_missing", "{'x'{}}", "byte 12: expected ':' after a name, found '{'"),
    HEADER("name_unquoted", "{x:{}}", "byte 9: expected a tensor name in double quotes, found 'x'"),
    HEADER("comment", "{/**/}", "byte 9: expected a tensor name in double quotes, found '/'"),
    HEADER("deep_nesting", "{'x':{'shape':" TEN(TEN(TEN("["))) "}}", "byte 23: expected a dimension, found '['"),
    HEADER("tensor_is_null", "{'x':null}", "byte 13: expected '{' of a tensor, found 'n'"),
    HEADER("tensor_is_empty", "{'x':{}}", "byte 14: expected \"dtype\", \"shape\" or \"data_offsets\", found '}'"),

    /* fields */
    HEADER("dtype_missing", TENSOR("'shape':[4],'data_offsets':[0,4]"), "byte 10: tensor \"x\" has no \"dtype\""),
    HEADER("shape_missing", TENSOR("'dtype':'U8','data_offsets':[0,4]"), "byte 10: tensor \"x\" has no \"shape\""),
    HEADER("offsets_missing", TENSOR("'dtype':'U8','shape':[4]"), "byte 10: tensor \"x\" has no \"data_offsets\""),
    HEADER("field_unknown", TENSOR("'dtype':'U8','strides':[1]"), "byte 28: unknown field \"strides\" of tensor \"x\""),
    HEADER("field_repeated", TENSOR("'shape':[4],'dtype':'U8','shape':[4]"), "byte 40: repeated field \"shape\" of tensor \"x\""),
    HEADER("dtype_is_number", TENSOR("'dtype':8"), "byte 22: expected a dtype in double quotes, found '8'"),
    HEADER("shape_is_number", TENSOR("'shape':4"), "byte 22: expected '[' of a shape, found '4'"),
    HEADER("offsets_of_one", TENSOR("'data_offsets':[0]"), "byte 31: expected ',' between two offsets, found ']'"),
    HEADER("offsets_of_three", TENSOR("'data_offsets':[0,4,8]"), "byte 33: expected ']' after two offsets, found ','"),

    /* integers */
    HEADER("dimension_negative", TENSOR("'shape':[-4]"), "byte 23: expected a dimension, found '-'"),
    HEADER("dimension_fraction", TENSOR("'shape':[4.0]"), "byte 23: expected a dimension without fraction or exponent"),
    HEADER("dimension_exponent", TENSOR("'shape':[4e0]"), "byte 23: expected a dimension without fraction or exponent"),
    HEADER("dimension_leading_zero", TENSOR("'shape':[04]"), "byte 23: an integer with a leading zero"),
    HEADER("dimension_plus", TENSOR("'shape':[+4]"), "byte 23: expected a dimension, found '+'"),
    HEADER("dimension_2_64", TENSOR("'shape':[18446744073709551616]"), "byte 23: an integer over 2^64-1"),
    HEADER("dimension_text", TENSOR("'shape':['4']"), "byte 23: expected a dimension, found '\"'"),
    HEADER("dimension_true", TENSOR("'shape':[true]"), "byte 23: expected a dimension, found 't'"),
    HEADER("shape_comma_behind_last", TENSOR("'shape':[4,]"), "byte 25: expected a dimension, found ']'"),
    HEADER("offset_negative", TENSOR("'data_offsets':[-1,4]"), "byte 30: expected an offset, found '-'"),
    HEADER("offset_2_64", TENSOR("'data_offsets':[0,18446744073709551616]"), "byte 32: an integer over 2^64-1"),

    /* strings */
    HEADER("name_empty", NAMED(""), "byte 10: an empty name"),
    HEADER("name_nul", NAMED("a\\u0000b"), "byte 10: control character 0x00 in a name"),
    HEADER("name_newline_escape", NAMED("a\\nb"), "byte 10: control character 0x0a in a name"),
    HEADER("name_terminal_escape", NAMED("\\u001b[2J"), "byte 10: control character 0x1b in a name"),
    HEADER("name_delete", NAMED("a\x7f"), "byte 10: control character 0x7f in a name"),
    HEADER("name_control", NAMED("a\1"), "byte 11: control character 0x01 in a string"),
    HEADER("name_raw_nul", NAMED("a\0"), "byte 11: control character 0x00 in a string"),
    HEADER("name_4097_bytes", NAMED("12345678" "\\u0041" TEN(TEN("12345678901234567890" "12345678901234567890")) "1234567890" "1234567890" "1234567890" "1234567890" "1234567890" "1234567890" "1234567890" "123456789" "123456789"),
           "byte 10: a name of 4097 bytes, 4096 are allowed"),
    HEADER("utf8_stray_continuation", NAMED("a\x80"), "byte 11: bad UTF-8 (byte 0x80)"),
    HEADER("utf8_overlong_slash", NAMED("a\xc0\xaf"), "byte 11: bad UTF-8 (byte 0xc0)"),
    HEADER("utf8_overlong_three", NAMED("a\xe0\x80\xaf"), "byte 11: bad UTF-8 (byte 0xe0)"),
    HEADER("utf8_overlong_four", NAMED("a\xf0\x80\x80\xaf"), "byte 11: bad UTF-8 (byte 0xf0)"),
    HEADER("utf8_surrogate", NAMED("a\xed\xa0\x80"), "byte 11: bad UTF-8 (byte 0xed)"),
    HEADER("utf8_past_10ffff", NAMED("a\xf4\x90\x80\x80"), "byte 11: bad UTF-8 (byte 0xf4)"),
    HEADER("utf8_cut_by_quote", NAMED("a\xe2\x82"), "byte 11: bad UTF-8 (byte 0xe2)"),
    HEADER("utf8_cut_by_end", "{'a\xe2\x82", "byte 11: bad UTF-8 (byte 0xe2)"),
    HEADER("utf8_latin1", NAMED("a\xfc"), "byte 11: bad UTF-8 (byte 0xfc)"),
    HEADER("escape_unknown", NAMED("a\\x41"), "byte 11: an escape that JSON does not have"),
    HEADER("escape_short_hex", NAMED("a\\u00g0"), "byte 11: \\u needs four hexadecimal digits"),
    HEADER("escape_at_end", "{'a\\", "byte 11: a string without an end"),
    HEADER("surrogate_high_alone", NAMED("a\\ud800"), "byte 11: half of a surrogate pair"),
    HEADER("surrogate_low_alone", NAMED("a\\udc00"), "byte 11: half of a surrogate pair"),
    HEADER("surrogate_two_high", NAMED("a\\ud800\\ud800"), "byte 11: half of a surrogate pair"),
    HEADER("string_unclosed", "{'abc", "byte 9: a string without an end"),

    /* metadata */
    HEADER("metadata_number", META("{'a':1}"), "byte 29: expected a metadata string in double quotes, found '1'"),
    HEADER("metadata_nested", META("{'a':{}}"), "byte 29: expected a metadata string in double quotes, found '{'"),
    HEADER("metadata_list", META("[]"), "byte 24: expected '{' of \"__metadata__\", found '['"),
    HEADER("metadata_null", META("null"), "byte 24: expected '{' of \"__metadata__\", found 'n'"),
    HEADER("metadata_twice", "{'__metadata__':{},'__metadata__':{}}", "byte 28: \"__metadata__\" stands twice"),
    HEADER("metadata_key_twice", META("{'a':'1','b':'2','a':'3'}"), "byte 42: metadata key \"a\" stands twice"),
    HEADER("metadata_key_nul", META("{'a\\u0000':'1'}"), "byte 26: a NUL in a metadata key"),
    HEADER("metadata_bad_utf8", META("{'a':'\xff'}"), "byte 30: bad UTF-8 (byte 0xff)"),
    {.name = NULL},
};
