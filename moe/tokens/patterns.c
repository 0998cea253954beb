/* patterns.c - the list: name and text, byte for byte as tokenizer.json has it.
 *
 * Only what was compared with the reference on many texts stands here; a pattern that merely looks
 * alike is refused. */
#include "config.h"
#include "moe/tokens/patterns.h"

#include <stddef.h>
#include <string.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER        "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER        "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define NOT_HAN      "&&[^\\p{Han}]"
#define FRONT        "[^\\r\\n\\p{L}\\p{N}]?"
#define SPACES       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct {
    const char *name, *regex;
} known[] = {
    /* GPT-2, GPT-NeoX, OLMoE: what ByteLevel with use_regex splits by */
    {"gpt-2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
    /* cl100k, Llama-3, GLM-4 */
    {"llama-3",
     CONTRACTIONS "|" FRONT "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES},
    {"qwen-2", CONTRACTIONS "|" FRONT "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES},
    {"qwen-3.5",
     CONTRACTIONS "|" FRONT "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES},
    /* gpt-oss, Llama-4 */
    {"o200k", FRONT "[" UPPER "]*[" LOWER "]+" CONTRACTIONS "?|" FRONT "[" UPPER "]+[" LOWER
                    "]*" CONTRACTIONS "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES},
    {"tekken", FRONT "[" UPPER "]*[" LOWER "]+|" FRONT "[" UPPER "]+[" LOWER
                     "]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES},
    {"kimi-k2", "[\\p{Han}]+|" FRONT "[" UPPER NOT_HAN "]*[" LOWER NOT_HAN "]+" CONTRACTIONS
                "?|" FRONT "[" UPPER NOT_HAN "]+[" LOWER NOT_HAN "]*" CONTRACTIONS
                "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES},
    /* DeepSeek-V3 applies three in turn; line ends stand in the third as characters */
    {"deepseek-v3", "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
                    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
                    "\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
    {"kana and ideographs", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"},
    {"digits by three", "\\p{N}{1,3}"},
    {"digits", "\\p{N}"},
    {"numbers", "\\p{N}+"},
};

const char *tmb_pattern_at(int i, const char **regex)
{
    if (i < 0 || (size_t)i >= sizeof known / sizeof *known) return NULL;
    *regex = known[i].regex;
    return known[i].name;
}

const char *tmb_pattern_name(const char *regex)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].regex, regex) == 0) return known[i].name;
    return NULL;
}
