dist_noinst_SCRIPTS += tools/fuzz.sh
