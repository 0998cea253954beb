# A test is one word here: a program tests/test_x (its source is tests/test_x.c, linked with the
# library), or a script tests/x.test.  Both print TAP.
check_PROGRAMS +=           \
	tests/test_assign         \
	tests/test_attend         \
	tests/test_bad_recipes    \
	tests/test_bad_tokenizers \
	tests/test_bad_stats      \
	tests/test_base           \
	tests/test_calibrate      \
	tests/test_bitflips       \
	tests/test_causes         \
	tests/test_comm           \
	tests/test_coverage       \
	tests/test_crash          \
	tests/test_eval           \
	tests/test_fault_stats    \
	tests/test_faults         \
	tests/test_data           \
	tests/test_diagnose_archs \
	tests/test_diagnose       \
	tests/test_diagnose_table \
	tests/test_engines        \
	tests/test_fly            \
	tests/test_formats        \
	tests/test_forward        \
	tests/test_golden         \
	tests/test_grid           \
	tests/test_hardened       \
	tests/test_indexer        \
	tests/test_inventory      \
	tests/test_io_checkpoint  \
	tests/test_io_files       \
	tests/test_io_json        \
	tests/test_io_match       \
	tests/test_layout         \
	tests/test_malformed      \
	tests/test_measured       \
	tests/test_model          \
	tests/test_model_config   \
	tests/test_nn             \
	tests/test_observe        \
	tests/test_ops            \
	tests/test_output         \
	tests/test_planted        \
	tests/test_page           \
	tests/test_plan           \
	tests/test_quantize       \
	tests/test_recipe         \
	tests/test_recurrence     \
	tests/test_refused        \
	tests/test_resume         \
	tests/test_route          \
	tests/test_search         \
	tests/test_share          \
	tests/test_shipped        \
	tests/test_verify         \
	tests/test_stat_ops       \
	tests/test_stats          \
	tests/test_store          \
	tests/test_stored         \
	tests/test_streams        \
	tests/test_tap            \
	tests/test_terminal       \
	tests/test_tokenizer      \
	tests/test_weigh          \
	tests/test_weighed        \
	tests/test_weight
dist_check_SCRIPTS +=       \
	tests/bench.test        \
	tests/cli.test          \
	tests/demo.test         \
	tests/diagnose.test     \
	tests/docs.test         \
	tests/help.test         \
	tests/layers.test       \
	tests/malformed.test    \
	tests/mpi.test          \
	tests/plan.test         \
	tests/share.test        \
	tests/stats.test         \
	tests/trace.test
EXTRA_DIST += tests/header_model.h tests/data/decoded.txt
EXTRA_DIST += tests/job.h tests/layout_faults.h tests/layout_job.h tests/layout_parts.h \
	tests/loader_rules.h tests/mini_model.h tests/page_synthetic.h tests/plant.h tests/plant_dead.h tests/plant_faults.h tests/reference.h tests/run_job.h tests/sparse.h tests/tap.h
EXTRA_DIST += tests/data/README.md tests/data/arch tests/data/forward tests/data/golden tests/data/names tests/data/tinymoe
EXTRA_DIST += tests/malformed/README.md tests/malformed/bases tests/malformed/cases \
	tests/malformed/recipes
EXTRA_DIST += tests/comm_cases.h
EXTRA_DIST += tests/tokens.h tests/data/tokenizers tests/malformed/tokenizers
EXTRA_DIST += tests/stats_feed.h
EXTRA_DIST += tests/ckpt_edit.h tests/damage_cases.h tests/damages.h tests/data/whole

# Programs that measure, or make what is measured; not run by make check.
EXTRA_PROGRAMS =            \
	tests/bench_header      \
	tests/bench_ops         \
	tests/bench_recurrence  \
	tests/bench_stats       \
	tests/make_sparse       \
	tests/plant
CLEANFILES += $(EXTRA_PROGRAMS)

# A fuzz target is one word here and one file, tests/fuzz_x.c.  In make check each runs over its
# corpus tests/data/fuzz/x; configured with --enable-fuzz, it is a libFuzzer program, which
# tools/fuzz.sh runs.
fuzz_targets =              \
	tests/fuzz_args         \
	tests/fuzz_data         \
	tests/fuzz_forward      \
	tests/fuzz_header       \
	tests/fuzz_index        \
	tests/fuzz_journal      \
	tests/fuzz_json         \
	tests/fuzz_match        \
	tests/fuzz_model        \
	tests/fuzz_recipe       \
	tests/fuzz_size         \
	tests/fuzz_state        \
	tests/fuzz_stats        \
	tests/fuzz_summary      \
	tests/fuzz_tokenizer    \
	tests/fuzz_verify
if FUZZ
noinst_PROGRAMS += $(fuzz_targets)
fuzz_main = $(FUZZ_ENGINE)
else
check_PROGRAMS += $(fuzz_targets)
fuzz_main = tests/libfuzzmain.a
check_LIBRARIES = tests/libfuzzmain.a
tests_libfuzzmain_a_SOURCES = tests/fuzz_main.c
endif
tests_fuzz_args_SOURCES = tests/fuzz_args.c $(front_door)
tests_fuzz_args_CPPFLAGS = $(tombac_CPPFLAGS)
EXTRA_DIST += tests/data/fuzz tests/fuzz.h tests/fuzz_folder.h tests/fuzz_main.c tests/store_memory.h
tests_test_malformed_SOURCES = tests/test_malformed.c \
	tests/malformed/checkpoints/cases.h          \
	tests/malformed/checkpoints/folder_cases.c   \
	tests/malformed/checkpoints/grammar_cases.c  \
	tests/malformed/checkpoints/header_cases.c   \
	tests/malformed/checkpoints/index_cases.c

tests_test_refused_SOURCES = tests/test_refused.c tests/malformed/steps.c tests/malformed/steps.h

tests_test_terminal_SOURCES = tests/test_terminal.c src/progress.c src/progress.h src/stop.c src/stop.h \
	src/table.c src/table.h src/text.c src/text.h

# Tests that know TOMBAC_LONG=1 (make check-long): all of their cases instead of a sample.
long_tests = tests/test_bitflips tests/test_causes tests/test_crash tests/test_diagnose_table \
	tests/test_fault_stats tests/test_faults tests/test_planted

# Kernels of a GPU and their references; what needs one says that it was skipped.
check_PROGRAMS += tests/test_comm_nccl tests/test_grouped tests/test_layer tests/test_ops_cuda tests/test_quantize_cuda tests/test_route
EXTRA_DIST += tests/random.h
tests_test_store_CPPFLAGS = $(AM_CPPFLAGS) $(HDF5_CFLAGS)

LDADD = $(fuzz_main) $(tombac_libs)

TESTS = $(check_PROGRAMS) $(dist_check_SCRIPTS)
TEST_EXTENSIONS = .test
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
TEST_LOG_DRIVER = $(TAP_DRIVER)
AM_TESTS_ENVIRONMENT = \
	TOMBAC=$(abs_top_builddir)/tombac$(EXEEXT); export TOMBAC; \
	srcdir=$(abs_top_srcdir); export srcdir; \
	builddir=$(abs_top_builddir); export builddir; \
	ASAN_OPTIONS=protect_shadow_gap=0:detect_leaks=1; export ASAN_OPTIONS;

# The whole program above a layer that lets its calls fail, records them, or kills it between two:
# what tests/test_faults and tests/test_crash run.
EXTRA_PROGRAMS += tests/faulty
check_DATA = tests/faulty$(EXEEXT)
EXTRA_DIST += tests/fault_sweep.h tests/faulty.h tests/power.h
tests_faulty_SOURCES = $(tombac_SOURCES) tests/fault_files.c tests/fault_layer.c tests/fault_layer.h \
	tests/fault_memory.c tests/fault_trace.c
tests_faulty_CPPFLAGS = $(tombac_CPPFLAGS) $(JANSSON_CFLAGS) $(CRYPTO_CFLAGS)
tests_faulty_wraps = open openat __open_2 __openat_2 fopen syscall close pread __pread_chk pwrite fsync fdatasync \
	fallocate posix_fallocate ftruncate rename renameat unlink unlinkat rmdir mkdir mkdirat fstat fstatat faccessat fstatvfs flock readlinkat \
	opendir fdopendir readdir malloc calloc realloc posix_memalign aligned_alloc strdup strndup \
	open_memstream vasprintf __vasprintf_chk pthread_create main
tests_faulty_LDADD = $(tombac_libs)
tests_faulty_LDFLAGS = $(AM_LDFLAGS) $(tests_faulty_wraps:%=-Wl,--wrap=%)
