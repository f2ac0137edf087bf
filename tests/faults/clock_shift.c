/* Shifts the wall clock of the processes it is preloaded into, and no other clock: CLOCK_REALTIME is the kernel's plus
   the microseconds that the file named by CLOCK_SHIFT_FILE holds now (a signed 64-bit integer, native order). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t none = 0;
static volatile int64_t *shift = &none;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = file >= 0 ? mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
    if (page != MAP_FAILED) shift = page;
    if (file >= 0) close(file);
}

static int64_t nanoseconds(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec + *shift * 1000;
}

int clock_gettime(clockid_t clock, struct timespec *answer) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return (int) syscall(SYS_clock_gettime, clock, answer);
    int64_t now = nanoseconds();
    answer->tv_sec = now / 1000000000;
    answer->tv_nsec = now % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict answer, void *restrict zone) {
    (void) zone;
    int64_t now = nanoseconds();
    answer->tv_sec = now / 1000000000;
    answer->tv_usec = now % 1000000000 / 1000;
    return 0;
}

time_t time(time_t *answer) {
    time_t now = nanoseconds() / 1000000000;
    if (answer) *answer = now;
    return now;
}
