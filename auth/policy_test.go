package auth

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"
)

func TestPolicy(t *testing.T) {
	p := DefaultPolicy()
	p.Words = []string{"Contoso"}
	words := []string{"ana.lind@mail.example", "Anastasia", "Lind"}
	for _, test := range []struct {
		name, password string
		user, admin    string // what is expected of it, "" for nothing
	}{
		{"good", "correct horse battery", "", ""},
		{"8 characters", "vq8#mzkw", "", "at least 12 characters"},
		{"7 characters", "vq8#mzk", "at least 8 characters", "at least 12 characters"},
		{"12 characters", "vq8#mzkwpy2!", "", ""},
		{"12 characters beyond ASCII", "пароль мой Ω", "", ""},
		{"11 code points, more bytes", "пароль мой1", "", "at least 12 characters"},
		{"as many only before NFKC", "ﬃﬃﬃﬃ", "at least 8 characters without repetition", "at least 12 characters without repetition"},
		{"common", "password", "among the most common", "at least 12 characters"},
		{"common, long", "1q2w3e4r5t6y", "among the most common", "among the most common"},
		{"common, in capitals", "BASEBALL", "among the most common", "at least 12"},
		{"common, full width", "ｐａｓｓｗｏｒｄ", "among the most common", "at least 12"},
		{"common twice", "passwordpassword", "among the most common", "among the most common"},
		{"one character", "ssssssssssssssss", "without repetition", "without repetition"},
		{"a short repetition", "xq7xq7xq7xq7xq7xq7", "without repetition", "without repetition"},
		{"the user name", "ana.lind@mail.example", "beside names", "beside names"},
		{"the local part", "Ana.Lind-2026", "beside names", "beside names"},
		{"a given name", "anastasia12345", "beside names", "beside names"},
		{"a given name and more", "anastasia likes her tea hot", "", ""},
		{"the product", "roster-roster1", "beside names", "beside names"},
		{"the organisation", "contoso2026!", "beside names", "beside names"},
		{"64 characters", strings.Repeat("a", 31) + strings.Repeat("bc", 16) + "d", "", ""},
		{"white space", "   a   b   c  ", "", ""},
	} {
		for _, who := range []struct {
			admin bool
			want  string
		}{{false, test.user}, {true, test.admin}} {
			err := p.Check(test.password, who.admin, words...)
			if who.want == "" {
				if err != nil {
					t.Errorf("%s, administrator %v: %v; want no error", test.name, who.admin, err)
				}
				continue
			}
			if _, ok := errors.AsType[*PolicyError](err); !ok || !strings.Contains(err.Error(), who.want) {
				t.Errorf("%s, administrator %v: %v; want %q", test.name, who.admin, err, who.want)
			}
			if err != nil && test.name != "common" && strings.Contains(err.Error(), test.password) {
				t.Errorf("%s: the error repeats the password", test.name)
			}
		}
	}
	for password, want := range map[string]error{"": ErrPasswordEmpty, strings.Repeat("é", 129): ErrPasswordTooLong, strings.Repeat("xy", 1<<19): ErrPasswordTooLong} {
		if err := p.Check(password, false); !errors.Is(err, want) {
			t.Errorf("%d bytes: %v; want %v", len(password), err, want)
		}
	}
}

// TestCommonPasswords: the list is whole, and in the form in which it is looked up.
func TestCommonPasswords(t *testing.T) {
	list := commonPasswords()
	long := 0
	for i, w := range list {
		if i > 0 && list[i-1] >= w {
			t.Fatalf("%q comes after %q", w, list[i-1])
		}
		if strings.ContainsFunc(w, unicode.IsUpper) {
			t.Errorf("%q is not folded", w)
		}
		if len(w) >= DefaultPolicy().MinUser {
			long++
		}
	}
	if len(list) < 10_000 || long < 10_000 {
		t.Errorf("%d passwords, %d of which are long enough to be chosen", len(list), long)
	}
	for _, w := range []string{"123456", "password", "qwertyuiop", "iloveyou", "letmein", "trustno1", "passw0rd", "1q2w3e4r5t"} {
		if !common(w) {
			t.Errorf("%s is not in the list", w)
		}
	}
}

// TestGeneratedSecrets: they have the bits they should, and nobody has to tell 0 from
// O.
func TestGeneratedSecrets(t *testing.T) {
	every := make([]byte, 26)
	for i := range every {
		every[i] = byte(i * 8)
	}
	p, err := newTemporaryPassword(bytes.NewReader(every))
	if err != nil || p.Reveal() != "08gr08-gr08gr-08gr08-gr08gr-08" {
		t.Errorf("newTemporaryPassword = %s, %v", p.Reveal(), err)
	}
	if _, err := newTemporaryPassword(bytes.NewReader(every[:25])); err == nil {
		t.Error("too little randomness was enough")
	}
	if len(readable) != 32 || strings.ContainsAny(readable, "ilou") {
		t.Errorf("the alphabet is %s", readable)
	}
	if got := canonicalReadable(" 0OIl-ab CD\n"); got != "0011abcd" {
		t.Errorf("canonicalReadable = %s", got)
	}
}
