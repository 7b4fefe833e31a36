/* What the fuzzers share: how they say that something is not so, and the faults planted to be found. */
#ifndef AOE_FUZZ_CHECK_H
#define AOE_FUZZ_CHECK_H

/* For the tests of the fuzzers themselves. */
enum { PLANT_OVERREAD = 1, PLANT_LOST_WRITE, PLANT_LEAK, PLANT_OPEN_RANGE };
#ifndef AOE_FUZZ_PLANT
#define AOE_FUZZ_PLANT 0
#endif
static inline int planted(int fault) { return fault == AOE_FUZZ_PLANT; }

#define CHECK(what) ((what) ? (void)0 : broken(#what, __FILE__, __LINE__))
_Noreturn void broken(const char *what, const char *file, int line);

#endif
