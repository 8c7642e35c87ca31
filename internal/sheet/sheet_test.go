package sheet_test

import (
	"testing"

	"github.com/roster-id/roster/internal/sheet"
)

func TestHarmless(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "fine": "fine", "a=1": "a=1", "O'Neil; b-c": "O'Neil; b-c",
		"=1": "'=1", "'=1": "''=1", " +1": "' +1", "a;=1\n-b": "a;'=1\n'-b", "\t=1": "\t'=1",
	} {
		if got := sheet.Harmless(in); got != want {
			t.Errorf("Harmless(%q) = %q, want %q", in, got, want)
		}
	}
	// Nobody wrote these with Harmless.
	for in, want := range map[string]string{"'t Hart": "'t Hart", "'+46 8": "+46 8", "a'=1": "a'=1"} {
		if got := sheet.Meant(in); got != want {
			t.Errorf("Meant(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzMeant: nothing is lost by being made harmless.
func FuzzMeant(f *testing.F) {
	for _, s := range []string{"=1", "'=1", "a;'=1;\t\"-", "\n\r;;'' @", "'", "\xff=", "'\x00'=;'+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		safe := sheet.Harmless(s)
		if got := sheet.Meant(safe); got != s {
			t.Errorf("Meant(Harmless(%q)) = %q", s, got)
		}
	})
}
