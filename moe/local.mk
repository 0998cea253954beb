# One word in one of these lists, and one file, is a number format, an architecture, an output
# layout: the list is both what is compiled and what the registry looks up.
tmb_formats = \
	moe/format/nvfp4 \
	moe/format/nvfp4_w4a16 \
	moe/format/fp8 \
	moe/format/fp8_channel \
	moe/format/fp8_block \
	moe/format/mxfp4 \
	moe/format/mxfp8 \
	moe/format/int4
tmb_archs = \
	moe/model/arch/deepseek_v2 \
	moe/model/arch/deepseek_v3 \
	moe/model/arch/deepseek_v32 \
	moe/model/arch/deepseek_v4 \
	moe/model/arch/dots1 \
	moe/model/arch/ernie4_5_moe \
	moe/model/arch/glm4_moe \
	moe/model/arch/glm4_moe_lite \
	moe/model/arch/glm_moe_dsa \
	moe/model/arch/gpt_oss \
	moe/model/arch/guess \
	moe/model/arch/kimi_k25 \
	moe/model/arch/llama4 \
	moe/model/arch/minimax_m2 \
	moe/model/arch/minimax_m3 \
	moe/model/arch/mixtral \
	moe/model/arch/nemotron_h \
	moe/model/arch/olmoe \
	moe/model/arch/qwen2_moe \
	moe/model/arch/qwen3_5_moe \
	moe/model/arch/qwen3_moe \
	moe/model/arch/qwen3_next \
	moe/model/arch/qwen3_vl_moe \
	moe/model/arch/qwen4_exp
tmb_layouts = \
	moe/layout/modelopt \
	moe/layout/compressed_tensors

libtombac_a_SOURCES +=           \
	$(tmb_formats:=.c) \
	$(tmb_archs:=.c) \
	$(tmb_layouts:=.c) \
	moe/format/format.h      \
	moe/format/formats.c     \
	moe/format/formats.h     \
	moe/format/nvfp4.h       \
	moe/format/parts.c       \
	moe/format/parts.h       \
	moe/io/checkpoint.c      \
	moe/io/checkpoint.h      \
	moe/io/digest.c          \
	moe/io/files.c           \
	moe/io/files.h           \
	moe/io/folder.c          \
	moe/io/folder.h          \
	moe/io/gather.h          \
	moe/io/header_write.c    \
	moe/io/index.c           \
	moe/io/index.h           \
	moe/io/json.c            \
	moe/io/json.h            \
	moe/io/json_bare.c       \
	moe/io/json_dump.c       \
	moe/io/json_internal.h   \
	moe/io/match.c           \
	moe/io/match.h           \
	moe/io/names.c           \
	moe/io/names.h           \
	moe/io/open.c            \
	moe/io/safetensors.c     \
	moe/io/safetensors.h     \
	moe/io/scan.c            \
	moe/io/scan.h            \
	moe/layout/ct.h          \
	moe/layout/ct_config.c   \
	moe/layout/ct_targets.c  \
	moe/layout/layout.h      \
	moe/layout/layouts.c     \
	moe/layout/layouts.h     \
	moe/layout/modelopt.h    \
	moe/layout/modelopt_config.c \
	moe/layout/modules.c     \
	moe/layout/modules.h     \
	moe/model/arch.h         \
	moe/model/arch_rows.h    \
	moe/model/archs.c        \
	moe/model/archs.h        \
	moe/model/builder.h      \
	moe/model/dims.c         \
	moe/model/dims.h         \
	moe/model/form.c         \
	moe/model/form.h         \
	moe/model/fuse.c         \
	moe/model/group.c        \
	moe/model/match_rows.c   \
	moe/model/match_rows.h   \
	moe/model/model.c        \
	moe/model/model.h        \
	moe/model/parts.c        \
	moe/model/parts.h        \
	moe/model/prefix.c       \
	moe/model/role.c         \
	moe/model/role.h         \
	moe/model/stack.c        \
	moe/model/stored.c       \
	moe/model/stored.h       \
	moe/model/weight.c       \
	moe/model/weight.h       \
	moe/model/words.c        \
	moe/model/words.h        \
	moe/quantize/bundle.c    \
	moe/quantize/bundle.h    \
	moe/quantize/journal.c   \
	moe/quantize/journal.h   \
	moe/quantize/output.c    \
	moe/quantize/output.h    \
	moe/quantize/plan.c      \
	moe/quantize/plan.h      \
	moe/quantize/plan_bundles.c \
	moe/quantize/plan_files.c \
	moe/quantize/plan_internal.h \
	moe/quantize/plan_memory.c \
	moe/quantize/plan_outs.c \
	moe/quantize/plan_rows.c \
	moe/quantize/plan_texts.c \
	moe/quantize/quantize.c  \
	moe/quantize/quantize.h  \
	moe/quantize/run_internal.h \
	moe/quantize/run_others.c \
	moe/quantize/run_shards.c \
	moe/quantize/shard_writer.c \
	moe/quantize/shard_writer.h \
	moe/quantize/slab.c      \
	moe/quantize/slab.h      \
	moe/quantize/slot.c      \
	moe/quantize/slot.h      \
	moe/quantize/summary.c   \
	moe/quantize/summary.h   \
	moe/quantize/text.c      \
	moe/quantize/text.h      \
	moe/quantize/work.c      \
	moe/quantize/work.h      \
	moe/recipe/assign.c      \
	moe/recipe/assign.h      \
	moe/recipe/decide.h      \
	moe/recipe/draft.h       \
	moe/recipe/hint.c        \
	moe/recipe/lines.c       \
	moe/recipe/recipe.c      \
	moe/recipe/recipe.h      \
	moe/recipe/resolved.c    \
	moe/recipe/sections.c    \
	moe/recipe/settle.c      \
	moe/recipe/shipped.c     \
	moe/recipe/size.c        \
	moe/recipe/spec.c        \
	moe/recipe/warn.c        \
	moe/verify/compare.c \
	moe/verify/config.c \
	moe/verify/ct_scheme.c \
	moe/verify/files.c \
	moe/verify/findings.c \
	moe/verify/groups.c \
	moe/verify/inventory.c \
	moe/verify/kv.c \
	moe/verify/loaders.c \
	moe/verify/mo_scheme.c \
	moe/verify/nameset.c \
	moe/verify/nameset.h \
	moe/verify/native.c \
	moe/verify/pairs.c \
	moe/verify/parts.c \
	moe/verify/resolve_sglang.c \
	moe/verify/resolve_trt.c \
	moe/verify/resolve_vllm.c \
	moe/verify/structure.c \
	moe/verify/values.c \
	moe/verify/verify.c \
	moe/verify/verify.h \
	moe/verify/verify_internal.h

registries = moe/format/registry.inc moe/model/registry.inc moe/layout/registry.inc \
	moe/recipe/layout_names.inc
nodist_libtombac_a_SOURCES = $(registries)
BUILT_SOURCES += $(registries)
CLEANFILES += $(registries)
registry = $(AM_V_GEN)$(MKDIR_P) $(@D) && for f in $(1); do echo "X($$(basename $$f))"; done > $@
moe/format/registry.inc: Makefile
	$(call registry,$(tmb_formats))
moe/model/registry.inc: Makefile
	$(call registry,$(tmb_archs))
moe/layout/registry.inc: Makefile
	$(call registry,$(tmb_layouts))
# The words alone, for recipes that name a layout: moe/recipe/ stands below moe/layout/.
moe/recipe/layout_names.inc: Makefile
	$(call registry,$(tmb_layouts))
