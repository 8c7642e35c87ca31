package schemas_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/roster-id/roster/schemas"
)

func TestFold(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"ASCII", "Maya.Osei@Harborlight.EXAMPLE", "maya.osei@harborlight.example"},
		{"beyond ASCII", "ÅNGSTRÖM", "ångström"},
		{"composed and decomposed are one", "A\u030angstro\u0308m", "ångström"},
		{"sharp s", "Straße", "strasse"},
		{"capital sharp s", "STRAẞE", "strasse"},
		{"final sigma", "ΟΔΥΣΣΕΥΣ οδυσσευς", "οδυσσευσ οδυσσευσ"},
		{"full width", "ＡＬＩＣＥ", "alice"},
		{"ligature", "ﬁﬃ", "fiffi"},
		{"Kelvin sign", "\u212aelvin", "kelvin"},
		{"Ångström sign", "\u212b", "å"},
		{"long s", "ſoap", "soap"},
		{"superscript", "x²", "x2"},
		{"Roman numeral", "Ⅳ", "iv"},
		// Turkish dotted I keeps its dot, dotless i is a letter of its own: there
		// is no language in a directory, so neither may become the plain i.
		{"Turkish capital dotted I", "İ", "i\u0307"},
		{"Turkish small dotless i", "ı", "ı"},
		{"Cherokee capital", "\u13a0\u13f0", "\u13a0\u13f0"},
		{"Cherokee small", "\uab70\u13f8", "\u13a0\u13f0"},
		{"no-break space", "a\u00a0b", "a b"},
		{"iota below, in either place", "\u03b1\u0345\u0301", "άι"},
		{"marks in another order", "a\u0301\u0323", "ạ́"},
		{"no case", "日本語 123 😀", "日本語 123 😀"},
	} {
		if got := schemas.Fold(c.in); got != c.want {
			t.Errorf("%s: Fold(%+q) = %+q, want %+q", c.name, c.in, got, c.want)
		}
	}
}

// Fold is idempotent and takes letters that differ in case alone to the same
// form, for every character of the planes that have letters.
func TestFoldEveryCharacter(t *testing.T) {
	for r := rune(0); r < 0x30000; r++ {
		if 0x3000 <= r && r < 0xA000 || 0xAC00 <= r && r < 0xF900 || 0x20000 <= r && r < 0x2F800 {
			continue // ideographs, Hangul, surrogates and private use: nothing to fold
		}
		got := schemas.Fold(string(r))
		if again := schemas.Fold(got); again != got {
			t.Errorf("%U: Fold = %+q, Fold twice = %+q", r, got, again)
		}
		if other := unicode.SimpleFold(r); other != r && schemas.Fold(string(other)) != got {
			t.Errorf("%U folds to %+q, %U to %+q", r, got, other, schemas.Fold(string(other)))
		}
	}
}

func FuzzFold(f *testing.F) {
	for _, s := range []string{"Maya", "İstanbul", "ﬃ", "\u212a", "\u0345\u0300\u0345", "\u1f80\u0345", "\uab70\u13a0", "\xff", "a" + strings.Repeat("\u0323\u0300", 40)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := schemas.Fold(s)
		if again := schemas.Fold(got); again != got {
			t.Errorf("Fold(%+q) = %+q, Fold twice = %+q", s, got, again)
		}
		if len(got) > 12*len(s) {
			t.Errorf("Fold(%+q) is %d bytes", s, len(got))
		}
	})
}

func TestKey(t *testing.T) {
	user := userType(t)
	for _, c := range []struct{ path, in, key, unique string }{
		{"userName", "  Maya ", "  maya ", "maya"},
		{"userName", "\u00a0Ｍaya\u3000", " maya ", "maya"},
		{"userName", "Maya Osei", "maya osei", "maya osei"},
		{"externalId", " Maya ", " Maya ", "Maya"}, // exact
		{"profileUrl", "HTTPS://a/B", "HTTPS://a/B", "HTTPS://a/B"},
		{"id", "A1", "A1", "A1"},
		{"userName", "", "", ""},
	} {
		a := user.Lookup(c.path)
		if got := a.Key(c.in); got != c.key {
			t.Errorf("%s.Key(%q) = %q, want %q", a, c.in, got, c.key)
		}
		got := a.UniqueKey(c.in)
		if got != c.unique {
			t.Errorf("%s.UniqueKey(%q) = %q, want %q", a, c.in, got, c.unique)
		}
		if again := a.UniqueKey(got); again != got {
			t.Errorf("%s.UniqueKey(%q) = %q, twice %q", a, c.in, got, again)
		}
	}
}

// TestFolder: what shares memory is what it would be alone, and stays so.
func TestFolder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	letters := []rune("abcXYZ019.@[`{Åß")
	for range 200 {
		var f schemas.Folder
		var got, want []string
		for range r.IntN(30) {
			n, of := []int{r.IntN(20), 63 + r.IntN(3), 255 + r.IntN(3), r.IntN(600)}[r.IntN(4)], letters
			if r.IntN(3) > 0 {
				of = letters[:len(letters)-2] // ASCII
			}
			var b strings.Builder
			for range n {
				b.WriteRune(of[r.IntN(len(of))])
			}
			a := &schemas.Attribute{CaseExact: r.IntN(5) == 0}
			got, want = append(got, f.Key(a, b.String())), append(want, a.Key(b.String()))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%q, want %q", got[i], want[i])
			}
		}
	}
}

func TestParseTime(t *testing.T) {
	utc := func(y int, m time.Month, d, h, min, s, ns int) time.Time {
		return time.Date(y, m, d, h, min, s, ns, time.UTC)
	}
	for _, c := range []struct {
		in   string
		want time.Time
	}{
		{"2008-01-23T04:56:22Z", utc(2008, 1, 23, 4, 56, 22, 0)},
		{"2008-01-23T04:56:22.123456789Z", utc(2008, 1, 23, 4, 56, 22, 123456700)},
		{"0001-01-01T00:00:00.123456789Z", utc(1, 1, 1, 0, 0, 0, 123456700)},
		{"2008-01-23T04:56:22.5+02:00", utc(2008, 1, 23, 2, 56, 22, 500000000)},
		{"2008-01-23T04:56:22-11:30", utc(2008, 1, 23, 16, 26, 22, 0)},
		{"2008-01-23T04:56:22", utc(2008, 1, 23, 4, 56, 22, 0)},
		{"2008-01-23T04:56:22.25", utc(2008, 1, 23, 4, 56, 22, 250000000)},
		{"2008-02-29T00:00:00Z", utc(2008, 2, 29, 0, 0, 0, 0)},
		{"0001-01-01T00:00:00Z", utc(1, 1, 1, 0, 0, 0, 0)}, // how .NET says "never"
		{"9999-12-31T23:59:59Z", utc(9999, 12, 31, 23, 59, 59, 0)},
	} {
		got, ok := schemas.ParseTime(c.in)
		if !ok || !got.Equal(c.want) || got.Location() != time.UTC {
			t.Errorf("ParseTime(%s) = %v, %v; want %v", c.in, got, ok, c.want)
		}
	}
	for _, in := range []string{
		"0001-01-01T00:00:00+01:00",
		"9999-12-31T23:59:59-01:00",
		"0000-01-01T00:00:00Z",
		"12008-01-23T04:56:22Z",
		"-2008-01-23T04:56:22Z",
		"2008-01-23T4:56:22Z",
		"2008-01-23T04:56:22,5Z",
		"2008-01-23T04:56Z",
		"2008-01-23 04:56:22Z",
		"2008-01-23T04:56:22 Z",
		"2008-01-23T24:00:00Z",
		"2008-01-23T23:59:60Z",
		"2007-02-29T00:00:00Z",
		"2008-13-01T00:00:00Z",
		"2008-01-23T04:56:22+0200",
		"2008-01-23T04:56:22z",
		"2008-01-23",
		"",
		"yesterday at half past ten",
	} {
		if got, ok := schemas.ParseTime(in); ok {
			t.Errorf("ParseTime(%s) = %v", in, got)
		}
	}
}
