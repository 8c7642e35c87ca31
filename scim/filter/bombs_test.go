package filter

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/roster-id/roster/internal/raced"
)

// Texts made to be expensive are refused for next to no memory, with the usual
// limits and with all but one of them lifted.
func TestBombs(t *testing.T) {
	raced.Skip(t)
	bombs := []struct {
		name  string
		begin string
		unit  string
	}{
		{"parentheses", "", "("},
		{"not", "", "not ("},
		{"not without a space", "", "NOT("},
		{"brackets", "", "emails["},
		{"parentheses in brackets", "emails[", "("},
		{"not in brackets", "emails[", "not("},
		{"alternation", "", "title pr or "},
		{"conjunction", "", "title pr and "},
		{"alternation in brackets", "emails[", "type pr or "},
		{"both", "", "(title pr or "},
		{"a string without end", `userName eq "`, "x"},
		{"escapes without end", `userName eq "`, `\n`},
		{"surrogates without end", `userName eq "`, `\ud83d\ude00`},
		{"a string of an unknown attribute", `a eq "`, "x"},
		{"a name", "", "A"},
		{"a name in brackets", "emails[", "A"},
		{"a dotted name", "", "a."},
		{"a URN", "", "urn:"},
		{"a number", "userName eq ", "1"},
		{"spaces", "", " "},
		{"spaces after a term", "title pr", " "},
		{"closing", "", ")"},
	}
	const most = 10_000_000
	for _, bomb := range bombs {
		t.Run(bomb.name, func(t *testing.T) {
			text := bomb.begin + strings.Repeat(bomb.unit, most/len(bomb.unit))
			for _, n := range []int{5_000, 100_000, most} {
				text := text[:min(n, len(text))]
				for _, l := range []Limits{DefaultLimits, {Depth: 10, Terms: 32}} {
					if bomb.name == "spaces after a term" && l.Length == 0 {
						continue // a filter, if a wide one
					}
					checkBomb(t, func() error { _, err := Parse(text, user, l); return err })
					checkBomb(t, func() error { _, err := ParsePath(text, user, l); return err })
				}
			}
		})
	}
	t.Run("no limits", func(t *testing.T) {
		for _, unit := range []string{"(", "not ("} {
			text := strings.Repeat(unit, most/len(unit))
			checkBomb(t, func() error { _, err := Parse(text, user, Limits{}); return err })
		}
		for attribute, digits := range map[string]string{"slots": "", "weight": "0."} {
			text := attribute + " eq " + digits + strings.Repeat("1", most)
			checkBomb(t, func() error { _, err := Parse(text, device, Limits{}); return err })
		}
	})
}

func checkBomb(t *testing.T, parse func() error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := parse()
	runtime.ReadMemStats(&after)
	if _, ok := errors.AsType[*SyntaxError](err); !ok {
		t.Errorf("error %v, want a *SyntaxError", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used >= 1<<20 {
		t.Errorf("allocates %d bytes", used)
	}
	if err != nil && len(err.Error()) > 256 {
		t.Errorf("the error is %d bytes long", len(err.Error()))
	}
}
