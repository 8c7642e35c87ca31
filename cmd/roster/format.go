package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// tame returns a name as it stands in a table, in quotes if it could play with the
// terminal.
func tame(name string) string {
	if utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return name
	}
	return strconv.Quote(name)
}

const day = 24 * time.Hour

// parseDuration reads days ("90d") or what time.ParseDuration reads ("24h").
func parseDuration(s string) (time.Duration, error) {
	if number, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration; write it like 90d or 24h", s)
		}
		return time.Duration(days) * day, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write it like 90d or 24h", s)
	}
	return d, nil
}

// parseFlag reads the duration given to a flag; it returns usual beside an error, so
// that what else is wrong can be found.
func parseFlag(flag, s string, usual time.Duration) (time.Duration, error) {
	d, err := parseDuration(s)
	if err != nil {
		return usual, fmt.Errorf("--%s: %w", flag, err)
	}
	return d, nil
}

func formatDays(d time.Duration) string { return strconv.Itoa(int(d/day)) + "d" }

// formatTime writes a time as people read it, in UTC, so that two people reading
// it aloud mean the same.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}
