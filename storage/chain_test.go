package storage

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// entryFrom makes an entry of arbitrary bytes: any way to spread them over the
// fields can come up.
func entryFrom(b []byte) AuditEntry {
	next := func() []byte {
		if len(b) == 0 {
			return nil
		}
		n := min(int(b[0]), len(b)-1)
		if b[0] == 255 { // some are long
			n = len(b) - 1
		}
		part := b[1 : 1+n]
		b = b[1+n:]
		return part
	}
	number := func() int64 {
		var x [8]byte
		copy(x[:], next())
		return int64(binary.LittleEndian.Uint64(x[:]))
	}
	text := func() string { return string(next()) }
	e := AuditEntry{RequestID: text(), Actor: text(), Action: text(), Type: text(), ID: text(), Version: number(), From: text(), Level: text(), Chain: text(), N: number()}
	if at := number() % (1 << 45); at != 0 { // UnixMilli has to bring it back
		e.At = time.UnixMilli(at).UTC()
	}
	for range len(next()) {
		e.Attributes = append(e.Attributes, text())
	}
	for len(b) > 0 && len(e.Changes) < 10 {
		e.Changes = append(e.Changes, Change{text(), next(), next()})
	}
	return e
}

var noGivenFields = cmp.Options{cmpopts.IgnoreFields(AuditEntry{}, "Seq", "Hash"), cmpopts.EquateEmpty()}

// FuzzCanonical: entries are the same, or their canonical forms differ, and
// neither is the beginning of the other.
func FuzzCanonical(f *testing.F) {
	f.Add([]byte("\x01a\x01b"), []byte("\x02ab\x00"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01a\x00\x01a"), []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01a\x01a"))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, b := entryFrom(x), entryFrom(y)
		ca, cb := a.AppendCanonical(nil), b.AppendCanonical(nil)
		if same := cmp.Equal(a, b, noGivenFields); same != bytes.Equal(ca, cb) {
			t.Errorf("%+v\n%+v\nsame: %t, and the same canonical form: %t", a, b, same, !same)
		} else if !same && (bytes.HasPrefix(ca, cb) || bytes.HasPrefix(cb, ca)) {
			t.Errorf("%+v\n%+v: the form of one begins with that of the other", a, b)
		}
		if len(a.Changes) > 0 {
			if got := ParseChanges(AppendChanges(nil, a.Changes)); !cmp.Equal(got, a.Changes, cmpopts.EquateEmpty()) {
				t.Errorf("changes %q come back as %q", a.Changes, got)
			}
		}
		// What is no canonical form is not taken for one.
		if got := ParseChanges(x); !cmp.Equal(got, []Change{{}}) && !bytes.Equal(AppendChanges(nil, got), x) {
			t.Errorf("ParseChanges(%q) took %q", x, got)
		}
	})
}

// TestCanonical moves what entries are made of about at random: the same bytes on
// other sides of a border are another entry.
func TestCanonical(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	forms := map[string]AuditEntry{}
	for range 50_000 {
		b := make([]byte, r.IntN(30))
		for i := range b {
			b[i] = byte(r.IntN(3))
		}
		e := entryFrom(b)
		form := string(e.AppendCanonical(nil))
		if before, ok := forms[form]; ok && !cmp.Equal(before, e, noGivenFields) {
			t.Fatalf("one form for\n%+v\n%+v", before, e)
		}
		forms[form] = e
	}
}

// TestCanonicalForm holds the form to what it is, for entries that were hashed
// before have to be verified after.
func TestCanonicalForm(t *testing.T) {
	e := AuditEntry{Seq: 7, At: time.UnixMilli(1).UTC(), RequestID: "r", Actor: "operator", Action: "user.patch", Type: "User", ID: "u", Version: 2,
		Attributes: []string{"title", "active"}, From: "::1", Level: "mfa", Changes: []Change{{"title", nil, []byte(`"x"`)}}, Chain: "s1", N: 3, Hash: []byte("not part of it")}
	want := "\x01" + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x01r" + "\x08operator" + "\x0auser.patch" + "\x04User" + "\x01u" + "\x00\x00\x00\x00\x00\x00\x00\x02" +
		"\x02\x05title\x06active" + "\x03::1" + "\x03mfa" + "\x01\x05title\x00\x03\"x\"" + "\x02s1" + "\x00\x00\x00\x00\x00\x00\x00\x03"
	if got := string(e.AppendCanonical(nil)); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if a, b := e.Sum(nil), e.Sum(bytes.Repeat([]byte{1}, 32)); len(a) != 32 || bytes.Equal(a, b) {
		t.Errorf("Sum: %x and, after another entry, %x", a, b)
	}
}

func TestNewChain(t *testing.T) {
	a, b, c := NewChain(true), NewChain(true), NewChain(false)
	if a == b || !InOrder(a) || InOrder(c) || strings.ContainsAny(a+c, " /%") {
		t.Errorf("chains %q, %q and %q", a, b, c)
	}
}

func BenchmarkSum(b *testing.B) {
	e := AuditEntry{At: time.Now(), RequestID: "01a20000-0000-7000-8000-000000000001", Actor: "client:01a20000-0000-7000-8000-000000000001", Action: "user.create",
		Type: "User", ID: "01a20000-0000-7000-8000-000000000001", Version: 1, From: "192.0.2.1", Chain: NewChain(true), N: 1,
		Changes: []Change{{"userName", nil, []byte(`"ana@example.com"`)}, {"externalId", nil, []byte(`"ana"`)}, {"active", nil, []byte("true")}}}
	b.ReportAllocs()
	for b.Loop() {
		if e.Check() == nil {
			b.Fatal("an entry with a chain")
		}
		e.Chain, e.N = "", 0
		if err := e.Check(); err != nil {
			b.Fatal(err)
		}
		e.Chain, e.N = "s", 1
		e.Sum(nil)
	}
}
