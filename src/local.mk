bin_PROGRAMS += tombac
tombac_SOURCES = src/main.c src/args.h
tombac_LDADD = $(tombac_libs)
