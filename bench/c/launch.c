/* Runs a program and writes what it cost into a file: nanoseconds of wall time, microseconds of CPU,
 * KiB of the largest resident set. Small and static, because a process inherits the largest resident set
 * of whoever started it (exec_mmap, fs/exec.c), and because starting from a large process takes longer.
 *
 * usage: launch FILE PROGRAM [ARGUMENT]...
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long long nanoseconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	struct rusage used;
	int status, error;
	pid_t pid;

	if (argc < 3)
		return fprintf(stderr, "usage: launch FILE PROGRAM [ARGUMENT]...\n"), 2;
	long long start = nanoseconds();
	error = posix_spawn(&pid, argv[2], NULL, NULL, argv + 2, environ);
	if (error)
		return fprintf(stderr, "%s: %s\n", argv[2], strerror(error)), 127;
	if (wait4(pid, &status, 0, &used) < 0)
		return perror("wait4"), 127;
	long long wall = nanoseconds() - start;
	long long cpu = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec
		+ used.ru_stime.tv_usec;
	FILE *report = fopen(argv[1], "w");
	if (!report || fprintf(report, "%lld %lld %ld\n", wall, cpu, used.ru_maxrss) < 0 || fclose(report))
		return perror(argv[1]), 127;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
