bin_PROGRAMS += tombac
# Everything of src/ but main(), for tests that go through it.
front_door =                     \
	src/advice.c             \
	src/advice.h             \
	src/args.c               \
	src/args.h               \
	src/bench_encode.c       \
	src/bench_gemm.c         \
	src/bench_gpu.c          \
	src/bench_gpu.h          \
	src/bench_layer.c        \
	src/bench_calibrate.c    \
	src/bench_place.c        \
	src/bench_place.h        \
	src/bench_quantize.c     \
	src/bench_report.c       \
	src/bench_report.h       \
	src/cmd_bench.c          \
	src/cmd_calibrate.c      \
	src/cmd_diagnose.c       \
	src/cmd_doctor.c         \
	src/cmd_eval.c           \
	src/cmd_inspect.c        \
	src/cmd_plan.c           \
	src/cmd_quantize.c       \
	src/cmd_stats.c          \
	src/cmd_tokenize.c       \
	src/cmd_trace.c          \
	src/cmd_verify.c         \
	src/commands.c           \
	src/commands.h           \
	src/data_args.c          \
	src/data_args.h          \
	src/device.c             \
	src/device.h             \
	src/diagnose.h           \
	src/diagnose_diff.c      \
	src/diagnose_files.c     \
	src/diagnose_print.c     \
	src/emit.c               \
	src/emit.h               \
	src/estimate.c           \
	src/estimate.h           \
	src/job.c                \
	src/job.h                \
	src/machine.c            \
	src/machine.h            \
	src/needs.c              \
	src/needs.h              \
	src/plan_report.c        \
	src/plan_report.h        \
	src/progress.c           \
	src/progress.h           \
	src/recipe_dirs.c        \
	src/recipe_dirs.h        \
	src/stats.h              \
	src/stats_diff.c         \
	src/stats_show.c         \
	src/stop.c               \
	src/stop.h               \
	src/table.c              \
	src/table.h              \
	src/text.c               \
	src/text.h
tombac_SOURCES = src/main.c $(front_door)
tombac_CPPFLAGS = $(AM_CPPFLAGS) -DTMB_PKGDATADIR='"$(pkgdatadir)"'
tombac_LDADD = $(tombac_libs)

# Where the shipped recipes are while the program stands in its build tree.
noinst_DATA = src/recipes.dir
CLEANFILES += src/recipes.dir
src/recipes.dir: Makefile
	$(AM_V_GEN)$(MKDIR_P) src && (cd $(top_srcdir)/recipes && pwd) > $@
