dist_noinst_SCRIPTS += tools/acceptance.sh tools/check.sh tools/demo.sh tools/diagnose_faults.sh tools/fuzz.sh tools/large.sh tools/neon.sh tools/quality.sh tools/tsan.sh
EXTRA_DIST += tools/common.sh
EXTRA_DIST += tools/check_diagnosis.py tools/compare_tokenizers.py tools/forward_check.py tools/gen_unicode.py tools/gen_wgmma.sh
EXTRA_DIST += tools/peers/cpu.py tools/plain_check.py
EXTRA_DIST += tools/peers/forward.py tools/peers/gpu.py
