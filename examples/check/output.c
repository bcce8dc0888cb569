/* SPDX-License-Identifier: MIT */
/* Lines as text or as JSON: see check.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

static const char *const verdicts[] = { "ok", "warning", "missing" };

/* As a JSON string; bytes of no ASCII are taken for UTF-8. */
static void print_json(const char *key, const char *text)
{
	printf("\"%s\":\"", key);
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			printf("\\u%04x", (unsigned)(unsigned char)*text);
		else if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else
			putchar(*text);
	}
	putchar('"');
}

static void say_json(const char *name, enum verdict verdict, const char *cure,
		     const char *fact)
{
	putchar('{');
	print_json("check", name);
	putchar(',');
	print_json("verdict", verdicts[verdict]);
	putchar(',');
	print_json("fact", fact);
	if (cure) {
		putchar(',');
		print_json("cure", cure);
	}
	puts("}");
}

void say(const char *name, enum verdict verdict, const char *cure,
	 const char *format, ...)
{
	char fact[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(fact, sizeof(fact), format, args);
	va_end(args);
	check.warnings += verdict == WARNING;
	check.missing += verdict == MISSING;
	if (verdict == FINE)
		cure = NULL;
	if (check.json) {
		say_json(name, verdict, cure, fact);
		return;
	}
	printf("%-8s %-20s %s\n", verdicts[verdict], name, fact);
	if (cure)
		printf("%-8s %-20s -> %s\n", "", "", cure);
}

void say_result(void)
{
	const char *word = verdicts[check.missing  ? MISSING :
				    check.warnings ? WARNING :
						     FINE];

	if (check.json)
		printf("{\"result\":\"%s\",\"missing\":%u,\"warnings\":%u,"
		       "\"version\":\"%s\"}\n",
		       word, check.missing, check.warnings, ovc_version());
	else
		printf("libovercommit %s: %u missing, %u warning%s\n",
		       ovc_version(), check.missing, check.warnings,
		       check.warnings == 1 ? "" : "s");
}

bool read_line(const char *path, char *line, size_t len)
{
	FILE *file = fopen(path, "re");
	bool read = file && fgets(line, (int)len, file);

	if (file)
		fclose(file);
	if (read)
		line[strcspn(line, "\n")] = '\0';
	return read;
}
