package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"
	zombiezen "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

var someday = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var quiet = slog.New(slog.DiscardHandler)

// key signs in tests.
type key string

func (k key) Signer() ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, k)
	return ed25519.NewKeyFromSeed(seed)
}

func (k key) public() ed25519.PublicKey { return k.Signer().Public().(ed25519.PublicKey) }

func openAt(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t testing.TB, s storage.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// fill records entries of all sorts, some in a write together.
func fill(t testing.TB, s storage.Store, from, to int) {
	t.Helper()
	for i := from; i < to; {
		n := min(1+i%4, to-i)
		err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			for k := range n {
				if err := tx.Audit(sample(i + k)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		i += n
	}
}

func sample(i int) storage.AuditEntry {
	e := storage.AuditEntry{At: someday.Add(time.Duration(i) * time.Second), RequestID: fmt.Sprint("r", i), Actor: fmt.Sprint("client:", i%3), Action: "user.patch",
		Type: "User", ID: fmt.Sprint("u", i%10), Version: int64(i), From: "192.0.2.1", Attributes: []string{"title", "active"},
		Changes: []storage.Change{{Path: "title", Before: []byte(`"x"`), After: fmt.Appendf(nil, `"%d"`, i)}}}
	if i%5 == 0 {
		e = storage.AuditEntry{At: e.At, Actor: "operator", Action: "client.create", Type: "Client", ID: fmt.Sprint("c", i), Level: "mfa"}
	}
	return e
}

func verified(t testing.TB, s storage.Audit, checkpoints ...Checkpoint) Report {
	t.Helper()
	r, err := Verify(t.Context(), s, storage.DefaultTenant, checkpoints)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// checkpoints makes checkpoints of all there is, in a file, and reads it.
func checkpoints(t testing.TB, s storage.Store, file string) []Checkpoint {
	t.Helper()
	c := &Checkpointer{Store: s, Signer: key("test"), Now: time.Now, Log: quiet, File: file}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ended); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := ReadCheckpoints(f, storage.DefaultTenant, key("test").public())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestTampering changes real rows of a store at random, in every way there is, up
// to the last checkpoint: each is found.
func TestTampering(t *testing.T) {
	raced.Skip(t)
	const entries = 300
	tampers := 250 // make sequences has four times as many
	if os.Getenv("ROSTER_TEST_TAMPERS") != "" {
		tampers = 1000
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "roster.db")
	for i := range 4 { // as many chains
		s := openAt(t, path)
		fill(t, s, i*entries/4, (i+1)*entries/4)
		closed(t, s)
	}
	s := openAt(t, path)
	vouched := checkpoints(t, s, filepath.Join(dir, "checkpoints"))
	if r := verified(t, s, vouched...); !r.OK() || r.Entries != entries+1 || r.Chains != 5 || r.Vouched != entries {
		t.Fatalf("before any tampering: %+v", r)
	}
	defer func() { closed(t, s) }()
	c, err := zombiezen.OpenConn(path, zombiezen.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	do := func(sql string, args ...any) {
		t.Helper()
		if err := sqlitex.Execute(c, sql, &sqlitex.ExecOptions{Args: args}); err != nil {
			t.Fatalf("%s %v: %v", sql, args, err)
		}
	}
	do(`CREATE TEMP TABLE kept AS SELECT * FROM audit`)
	texts := []string{"request_id", "actor", "action", "type", "id", "attributes", "origin", "level", "chain"}
	numbers := []string{"at", "version", "n", "seq"}
	r := rand.New(rand.NewPCG(7, 7))
	some := func() int { return 1 + r.IntN(entries) }
	rehash := func(seq int) { // what somebody does who knows how
		do("COMMIT")
		defer do("BEGIN")
		list, err := s.AuditEntries(t.Context(), storage.DefaultTenant, -1<<62, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if list[i].Seq == int64(seq) && i > 0 {
				do(`UPDATE audit SET hash = ? WHERE seq = ?`, list[i].Sum(list[i-1].Hash), seq)
			}
		}
	}
	missed := map[string]int{}
	kinds := map[string]func() string{
		"edit a text": func() string {
			col, seq := texts[r.IntN(len(texts))], some()
			do(fmt.Sprintf(`UPDATE audit SET %[1]s = CASE ? WHEN 0 THEN %[1]s || 'x' WHEN 1 THEN %[1]s || ' ' ELSE 'y' || %[1]s END WHERE seq = ?`, col), r.IntN(3), seq)
			return fmt.Sprint(col, " of ", seq)
		},
		"edit a number": func() string {
			col, seq := numbers[r.IntN(len(numbers))], some()
			by := []int{1, -1, 1000, -100000, 1 << 40}[r.IntN(5)]
			if col == "seq" && by*by == 1 { // that one is taken
				by = -seq - r.IntN(5)
			}
			do(fmt.Sprintf(`UPDATE audit SET %[1]s = %[1]s + ? WHERE seq = ?`, col), by, seq)
			return fmt.Sprint(col, " of ", seq, " by ", by)
		},
		"edit bytes": func() string {
			col, seq := []string{"hash", "changes"}[r.IntN(2)], some()
			value := []any{nil, []byte{}, []byte{0}, []byte("\x01\x01a\x00\x00"), make([]byte, 32)}[r.IntN(5)]
			if col == "changes" && seq%5 == 1 && value == nil {
				value = []byte{0}
			}
			do(fmt.Sprintf(`UPDATE audit SET %s = ? WHERE seq = ?`, col), value, seq)
			return fmt.Sprint(col, " of ", seq, " as ", value)
		},
		"edit and hash again": func() string {
			seq := 2 + r.IntN(entries-2)
			do(`UPDATE audit SET actor = actor || 'x' WHERE seq = ?`, seq)
			rehash(seq)
			return fmt.Sprint(seq)
		},
		"edit and hash some that follow": func() string {
			seq := 2 + r.IntN(entries-2)
			do(`UPDATE audit SET actor = actor || 'x' WHERE seq = ?`, seq)
			for k := seq; k <= min(seq+20, entries+1); k++ {
				rehash(k)
			}
			return fmt.Sprint(seq)
		},
		"delete": func() string {
			first := some()
			last := min(entries, first+r.IntN(1+r.IntN(100)))
			do(`DELETE FROM audit WHERE seq BETWEEN ? AND ?`, first, last)
			return fmt.Sprint(first, " to ", last)
		},
		"delete and close the gap": func() string {
			first := some()
			do(`DELETE FROM audit WHERE seq = ?`, first)
			do(`UPDATE audit SET seq = -seq WHERE seq > ?`, first)
			do(`UPDATE audit SET seq = -seq - 1 WHERE seq < 0`)
			return fmt.Sprint(first)
		},
		"delete a chain": func() string {
			seq := some()
			do(`DELETE FROM audit WHERE chain = (SELECT chain FROM audit WHERE seq = ?)`, seq)
			return fmt.Sprint("that of ", seq)
		},
		"insert a copy": func() string {
			seq, to := some(), []int{0, -5, entries + 2, 1 << 40}[r.IntN(4)]
			do(`INSERT INTO audit SELECT tenant, ?, at, request_id, actor, action, type, id, version, attributes, origin, level, changes, chain, n, hash FROM audit WHERE seq = ?`, to, seq)
			return fmt.Sprint(seq, " as ", to)
		},
		"insert one of no chain": func() string {
			to := []int{0, -5, entries + 2, 1 << 40}[r.IntN(4)]
			do(`INSERT INTO audit (tenant, seq, at, request_id, actor, action, type, id, version, attributes) VALUES ('default', ?, 1, '', 'operator', 'x', '', '', 0, '')`, to)
			return fmt.Sprint(to)
		},
		"insert between": func() string {
			seq := some()
			do(`UPDATE audit SET seq = -seq WHERE seq > ?`, seq)
			do(`UPDATE audit SET seq = -seq + 1 WHERE seq < 0`)
			do(`INSERT INTO audit SELECT tenant, seq + 1, at, request_id, 'operator', action, type, id, version, attributes, origin, level, changes, chain, n + 1, hash FROM audit WHERE seq = ?`, seq)
			rehash(seq + 1)
			return fmt.Sprint("behind ", seq)
		},
		"swap": func() string {
			a, b := some(), some()
			if a == b {
				b = a%entries + 1
			}
			do(`UPDATE audit SET seq = CASE seq WHEN ?1 THEN -1 WHEN ?2 THEN -2 END WHERE seq IN (?1, ?2)`, a, b)
			do(`UPDATE audit SET seq = CASE seq WHEN -1 THEN ?2 WHEN -2 THEN ?1 END WHERE seq < 0`, a, b)
			return fmt.Sprint(a, " and ", b)
		},
		"swap with N": func() string {
			a, b := some(), some()
			if a == b {
				b = a%entries + 1
			}
			do(`UPDATE audit SET (n, chain) = (SELECT n, chain FROM audit o WHERE o.seq = CASE audit.seq WHEN ?1 THEN ?2 ELSE ?1 END) WHERE seq IN (?1, ?2)`, a, b)
			do(`UPDATE audit SET seq = CASE seq WHEN ?1 THEN -1 WHEN ?2 THEN -2 END WHERE seq IN (?1, ?2)`, a, b)
			do(`UPDATE audit SET seq = CASE seq WHEN -1 THEN ?2 WHEN -2 THEN ?1 END WHERE seq < 0`, a, b)
			return fmt.Sprint(a, " and ", b)
		},
		"truncate": func() string {
			seq := some()
			do(`DELETE FROM audit WHERE seq >= ?`, seq)
			return fmt.Sprint("from ", seq)
		},
		"another tenant": func() string {
			seq := some()
			do(`UPDATE audit SET tenant = 'acme' WHERE seq = ?`, seq)
			return fmt.Sprint(seq)
		},
	}
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	for i := range tampers {
		name := names[i%len(names)]
		reopen := i%100 == 0 && !strings.Contains(name, "hash") && name != "insert between" // which read the store
		if reopen {
			closed(t, s)
		}
		do("BEGIN")
		what := kinds[name]()
		do("COMMIT")
		if reopen {
			s = openAt(t, path)
		}
		if r := verified(t, s, vouched...); r.OK() {
			missed[name]++
			t.Errorf("%s: %s: nothing found", name, what)
		}
		do("BEGIN")
		do(`DELETE FROM audit`)
		do(`INSERT INTO audit SELECT * FROM kept`)
		do("COMMIT")
	}
	if r := verified(t, s, vouched...); !r.OK() {
		t.Errorf("after all: %+v", r)
	}
	t.Logf("%d tampers of %d kinds, missed %v", tampers, len(kinds), missed)
}

// list is a trail in memory.
type list []storage.AuditEntry

func (l list) AuditEntries(_ context.Context, _ storage.TenantID, after int64, limit int) ([]storage.AuditEntry, error) {
	i, _ := slices.BinarySearchFunc(l, after+1, func(e storage.AuditEntry, seq int64) int { return cmp.Compare(e.Seq, seq) })
	return l[i:min(len(l), i+limit)], nil
}

// chained makes a trail of chains, as a store with several writers would: spec has
// a letter for each entry, which names its chain; a capital one for a change.
func chained(spec string) list {
	var l list
	ends := map[rune]storage.AuditEntry{}
	for i, c := range spec {
		e := sample(i + 1)
		e.Seq, e.Version = int64(i+1), 0
		lower := []rune(strings.ToLower(string(c)))[0]
		if lower != c {
			e.Version = int64(i + 1)
		}
		e.Chain, e.N = "p"+string(lower), ends[lower].N+1
		e.Hash = e.Sum(ends[lower].Hash)
		ends[lower] = e
		l = append(l, e)
	}
	return l
}

// TestParallelChains: entries of one resource may be numbered in the order of its
// versions; nothing else may be out of order.
func TestParallelChains(t *testing.T) {
	swap := func(l list, i, j int) list {
		l = slices.Clone(l)
		l[i], l[j] = l[j], l[i]
		l[i].Seq, l[j].Seq = l[j].Seq, l[i].Seq
		return l
	}
	for _, c := range []struct {
		name string
		l    list
		want []Kind
	}{
		{"one", chained("aaaa"), nil},
		{"three", chained("abacbbaacacb"), nil},
		{"changes that changed places", swap(chained("AABBABA"), 1, 4), nil},
		{"others that did", swap(chained("aabbaba"), 1, 4), []Kind{Misplaced}},
		{"of two chains", swap(chained("abab"), 0, 1), nil}, // which says nothing
		{"one is gone", slices.Delete(chained("abababab"), 2, 3), []Kind{Missing}},
		{"the first is gone", slices.Delete(chained("abababab"), 0, 1), []Kind{Missing}},
		{"two are gone", slices.Delete(slices.Delete(chained("aaaaaaa"), 5, 6), 2, 3), []Kind{Missing, Missing}},
		{"one comes twice", append(chained("aaa"), func() storage.AuditEntry { e := chained("aaa")[2]; e.Seq = 4; return e }()), []Kind{Repeated}},
	} {
		var got []Kind
		for _, f := range verified(t, c.l).Faults {
			got = append(got, f.Kind)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	l := chained("abacbbaacacb")
	p := Checkpoint{Tenant: storage.DefaultTenant, Seq: 12, Count: 12, Heads: []Head{{"pb", 4, l[11].Hash}, {"pa", 5, l[9].Hash}, {"pc", 3, l[10].Hash}}}
	if r := verified(t, l, p); !r.OK() || r.Vouched != 12 {
		t.Errorf("%+v", r)
	}
	for name, tampered := range map[string]list{
		"the end is gone":          l[:11],
		"a whole chain is gone":    slices.DeleteFunc(slices.Clone(l), func(e storage.AuditEntry) bool { return e.Chain == "pc" }),
		"a chain ends before":      slices.Delete(slices.Clone(l), 10, 11),
		"another chain put in":     func() list { m := chained("abacbbaacacbd"); m[12].Seq = 0; return append(list{m[12]}, m[:12]...) }(),
		"a chain was made anew":    func() list { m := slices.Clone(l); m[11].Actor = "other"; m[11].Hash = m[11].Sum(m[5].Hash); return m }(),
		"a chain of the same name": append(slices.Clone(l[:10]), chained("cccccccccccc")[10:]...),
	} {
		if r := verified(t, tampered, p); r.OK() {
			t.Errorf("%s: nothing found", name)
		}
	}
}

// TestFaults: a report names what is wrong and where, once.
func TestFaults(t *testing.T) {
	edited := chained("aaaaa")
	edited[2].Actor = "other"
	r := verified(t, edited)
	want := []Fault{{Kind: Broken, Tenant: "default", Chain: "pa", N: 3, Seq: 3}}
	if d := diff.Diff(want, r.Faults); d != "" || r.Faulty != 1 || r.Entries != 5 {
		t.Errorf("%+v (-want +got):\n%s", r, d)
	}
	if got := r.Faults[0].String(); got != `broken: tenant "default", chain pa, entry 3, at number 3` {
		t.Error(got)
	}
	many := chained(strings.Repeat("a", 2000))
	for i := range many {
		many[i].Actor = "other"
	}
	if r := verified(t, many); len(r.Faults) != maxFaults || r.Faulty != 2000 {
		t.Errorf("%d faults of %d", len(r.Faults), r.Faulty)
	}
	before := chained("aaa")
	before[0].Chain, before[0].N, before[0].Hash = "", 0, nil
	before[1], before[2] = chained("aa")[0], chained("aa")[1]
	before[1].Seq, before[2].Seq = 2, 3
	if r := verified(t, before); !r.OK() || r.Unchained != 1 {
		t.Errorf("entries from before there were chains: %+v", r)
	}
}

func TestCheckpoints(t *testing.T) {
	p := Checkpoint{Tenant: "default", At: someday, Seq: 3, Count: 3, Heads: []Head{{"pa", 3, []byte{1, 2}}}}
	p.Sign(key("a").Signer())
	line, err := p.line()
	if err != nil {
		t.Fatal(err)
	}
	read := func(b []byte, keys ...ed25519.PublicKey) error {
		_, err := ReadCheckpoints(bytes.NewReader(b), "default", keys...)
		return err
	}
	for _, keys := range [][]ed25519.PublicKey{nil, {key("a").public()}, {key("b").public(), key("a").public()}} {
		if err := read(line, keys...); err != nil {
			t.Error(err)
		}
	}
	if err := read(line, key("b").public()); err == nil {
		t.Error("signed by another key, and taken")
	}
	for at := range line[:len(line)-1] {
		altered := bytes.Clone(line)
		altered[at] ^= 1
		list, err := ReadCheckpoints(bytes.NewReader(altered), "default", key("a").public())
		// Base64 can be written in more than one way.
		if err == nil && !diff.Equal(list, []Checkpoint{p}) {
			t.Errorf("byte %d changed, %s, and taken", at, altered)
		}
	}
	if k, err := ParseKey(KeyText(key("a").public())); err != nil || !k.Equal(key("a").public()) {
		t.Errorf("the key comes back as %x, %v", k, err)
	}
	for _, bad := range []string{"", "x", KeyText(key("a").public())[4:]} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
}

// TestCheckpointsCutOff: a file that the disk had no room for is read, and goes on, and no
// checkpoint of it is lost; what somebody cut off is found.
func TestCheckpointsCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoints.jsonl")
	var lines [][]byte
	for seq := range int64(3) {
		p := Checkpoint{Tenant: "default", At: someday, Seq: seq + 1, Count: seq + 1, Heads: []Head{{"pa", seq + 1, []byte{1, 2}}}}
		p.Sign(key("a").Signer())
		line, err := p.line()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	read := func() (seqs []int64, err error) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		list, err := ReadCheckpoints(bytes.NewReader(b), "default", key("a").public())
		for _, p := range list {
			seqs = append(seqs, p.Seq)
		}
		return seqs, err
	}
	half := lines[1][:len(lines[1])/2]
	for _, wrote := range [][][]byte{{lines[0], half}, {lines[0], half, half[:9]}, {lines[0], half[:9], half}} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		for _, b := range wrote {
			if n, err := appendTo(path, b); err != nil || n != len(b) {
				t.Fatal(n, err)
			}
			if got, err := read(); err != nil || !slices.Equal(got, []int64{1}) {
				t.Errorf("cut off: %d, %v", got, err)
			}
		}
		if n, err := appendTo(path, slices.Concat(lines[1], lines[2])); err != nil || n != len(lines[1])+len(lines[2]) {
			t.Fatal(n, err)
		}
		if got, err := read(); err != nil || !slices.Equal(got, []int64{1, 2, 3}) {
			t.Errorf("written again: %d, %v", got, err)
		}
	}
	for name, file := range map[string][]byte{
		"line 2": slices.Concat(lines[0], half, []byte("\n"), lines[2]), "line 1": slices.Concat(half, []byte("\n")),
	} {
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := read(); err == nil || !strings.HasPrefix(err.Error(), name+":") {
			t.Errorf("%s is cut off and not written again: %d, %v", name, got, err)
		}
	}
}

// TestCheckpointsDiskFull: what could not be written is written later.
func TestCheckpointsDiskFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full")
	}
	c := &Checkpointer{Log: slog.New(slog.DiscardHandler), File: "/dev/full", unsaved: []byte("a\nb\n")}
	c.save()
	if got := unwritten([]byte("a\nb\n"), 3); string(got) != "b\n" {
		t.Errorf("of two lines, the second of which was begun, %q are written again", got)
	}
	c.File = filepath.Join(t.TempDir(), "checkpoints.jsonl")
	c.save()
	if b, err := os.ReadFile(c.File); err != nil || string(b) != "a\nb\n" || len(c.unsaved) != 0 {
		t.Errorf("%q, %v, unsaved %q", b, err, c.unsaved)
	}
}

// gone is a store for which a request is over when its context is.
type gone struct{ storage.Store }

func (g gone) ListTenants(ctx context.Context) ([]*storage.Tenant, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return g.Store.ListTenants(ctx)
}

// TestCheckpointerEnds: a look that the end of the process cuts off is nothing to warn of.
func TestCheckpointerEnds(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "roster.db"))
	defer func() { closed(t, s) }()
	var log bytes.Buffer
	c := &Checkpointer{Store: gone{s}, Signer: key("test"), Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil))}
	ctx, end := context.WithCancel(t.Context())
	end()
	c.step(ctx, within)
	if log.Len() > 0 {
		t.Errorf("the log has %s", &log)
	}
	late, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	if c.step(late, 0); !strings.Contains(log.String(), "could not be followed") {
		t.Errorf("when the last step takes too long the log has %q", &log)
	}
}

// TestCheckpointer: one checkpoint after every 1,000 entries, one a minute, none when
// there is nothing new; and two do not do the same work.
func TestCheckpointer(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "roster.db"))
	defer func() { closed(t, s) }()
	now := someday
	var log bytes.Buffer
	start := func(name string) *Checkpointer {
		return &Checkpointer{Store: s, Signer: key("test"), Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&log, nil)), File: filepath.Join(dir, name)}
	}
	read := func(c *Checkpointer) []Checkpoint {
		t.Helper()
		b, err := os.ReadFile(c.File)
		if os.IsNotExist(err) {
			return nil
		}
		list, err := ReadCheckpoints(bytes.NewReader(b), storage.DefaultTenant, key("test").public())
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	want := func(c *Checkpointer, seqs ...int64) {
		t.Helper()
		var got []int64
		list := read(c)
		for _, p := range list {
			got = append(got, p.Seq)
			if p.Count != p.Seq {
				t.Errorf("%d entries up to number %d", p.Count, p.Seq)
			}
		}
		if !slices.Equal(got, seqs) {
			t.Errorf("checkpoints at %d, want %d", got, seqs)
		}
		entries, err := s.AuditEntries(t.Context(), storage.DefaultTenant, 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Action == Action && e.Actor != storage.SystemActor {
				t.Errorf("a checkpoint is an entry of %q", e.Actor)
			}
		}
		if r := verified(t, s, list...); !r.OK() {
			t.Errorf("%+v", r)
		}
	}
	a := start("a")
	a.step(t.Context(), within)
	want(a)
	fill(t, s, 0, 10)
	a.step(t.Context(), within)
	now = now.Add(within - time.Second)
	a.step(t.Context(), within)
	want(a)
	now = now.Add(time.Second)
	a.step(t.Context(), within)
	want(a, 10)
	now = now.Add(time.Hour) // its own entry is no reason for another
	a.step(t.Context(), within)
	want(a, 10)
	fill(t, s, 0, 2500)
	a.step(t.Context(), within)
	want(a, 10, 1011, 2011)
	now = now.Add(within)
	a.step(t.Context(), within)
	want(a, 10, 1011, 2011, 2513)
	// Another process goes on from there.
	b := start("b")
	b.step(t.Context(), within)
	want(b, 2513)
	fill(t, s, 0, 3)
	a.step(t.Context(), within)
	b.step(t.Context(), within)
	now = now.Add(within)
	b.step(t.Context(), within)
	a.step(t.Context(), within)
	want(b, 2513, 2517)
	want(a, 10, 1011, 2011, 2513, 2517)
	// The same after a restart of the store, with a chain of its own.
	closed(t, s)
	s = openAt(t, filepath.Join(dir, "roster.db"))
	c := start("c")
	c.step(t.Context(), within)
	fill(t, s, 0, 1000)
	c.step(t.Context(), within)
	want(c, 2517, 3518)
	if log.Len() > 0 {
		t.Errorf("the log has %s", &log)
	}
	// A file that cannot be written to is tried again.
	d := start("no/d")
	d.step(t.Context(), within)
	if !strings.Contains(log.String(), "could not be written") {
		t.Errorf("the log has %q", &log)
	}
	if err := os.Mkdir(filepath.Join(dir, "no"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.step(t.Context(), within)
	want(d, 3518)
	// With another key everything is looked at again.
	log.Reset()
	e := start("e")
	e.Signer = key("other")
	e.step(t.Context(), within)
	e.step(t.Context(), 0)
	if last, err := Last(t.Context(), s, storage.DefaultTenant); err != nil || last.Authenticate(key("other").public()) != nil || last.Count < 3500 {
		t.Errorf("got %+v, %v", last, err)
	}
	if !strings.Contains(log.String(), "not made with this key") {
		t.Errorf("the log has %q", &log)
	}
}

// TestCheckpointerNotices: what was changed since the last checkpoint is logged by
// whoever goes on from there.
func TestCheckpointerNotices(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "roster.db")
	s := openAt(t, path)
	fill(t, s, 0, 20)
	list := checkpoints(t, s, filepath.Join(dir, "c"))
	closed(t, s)
	c, err := zombiezen.OpenConn(path, zombiezen.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteScript(c, `DELETE FROM audit WHERE seq > 15`, nil); err != nil {
		t.Fatal(err)
	}
	c.Close()
	s = openAt(t, path)
	defer func() { closed(t, s) }()
	fill(t, s, 0, 10)
	var log bytes.Buffer
	p := &Checkpointer{Store: s, Signer: key("test"), Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil))}
	p.step(t.Context(), within)
	if !strings.Contains(log.String(), "the audit trail has been changed") || !strings.Contains(log.String(), "chain=s") {
		t.Errorf("the log has %q", &log)
	}
	r := verified(t, s, list...)
	var kinds []Kind
	for _, f := range r.Faults {
		kinds = append(kinds, f.Kind)
	}
	if !slices.Contains(kinds, Lost) {
		t.Errorf("found %q, want what the checkpoint has and the trail has not", kinds)
	}
	if r := verified(t, s); !r.OK() {
		t.Errorf("without the checkpoint %+v; docs/security.md says that this is not found", r)
	}
}

func TestSearch(t *testing.T) {
	var l list
	for i := range 45_000 {
		e := sample(i)
		e.Seq = int64(i + 1)
		l = append(l, e)
	}
	for _, q := range []Query{
		{}, {Actor: "operator"}, {Action: "user.patch", ID: "u7"}, {Type: "Client", Since: someday.Add(time.Hour), Until: someday.Add(2 * time.Hour)},
		{ID: "c44000"}, {Actor: "nobody"}, {Limit: 7, ID: "u7"}, {After: 44_990}, {Limit: 1 << 30, Actor: "client:1"},
	} {
		var want, got []int64
		for _, e := range l[q.After:] {
			if q.selects(&e) {
				want = append(want, e.Seq)
			}
		}
		calls := 0
		for next := q.After; ; calls++ {
			q.After = next
			list, after, err := Search(t.Context(), l, storage.DefaultTenant, q)
			if err != nil || len(list) > maxLimit || after != 0 && after <= next {
				t.Fatalf("%+v: %d entries, to go on at %d, %v", q, len(list), after, err)
			}
			for _, e := range list {
				got = append(got, e.Seq)
			}
			if next = after; after == 0 {
				break
			}
			if after-q.After > maxLooked {
				t.Errorf("%+v: one call looked at %d entries", q, after-q.After)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %d entries in %d calls, want %d", q, len(got), calls, len(want))
		}
	}
}

// TestExport: every line is an object with the names that are promised, whatever somebody has
// made of an entry.
func TestExport(t *testing.T) {
	l := list{sample(1), sample(5)}
	l[0].Seq, l[0].Chain, l[0].N, l[0].Hash = 1, "pa", 1, []byte{0xab}
	l[0].Changes = append(l[0].Changes, storage.Change{Path: "password"}, storage.Change{Path: "x\xff", After: []byte(`{"a":`)})
	l[1].Seq = 2
	var b strings.Builder
	n, err := Export(t.Context(), l, "default", Query{}, &b)
	want := `{"tenant":"default","seq":1,"at":"2026-03-01T12:00:01Z","requestId":"r1","actor":"client:1","from":"192.0.2.1","action":"user.patch","type":"User","id":"u1","version":1,` +
		`"attributes":["title","active"],"changes":[{"path":"title","before":"x","after":"1"},{"path":"password"},{"path":"x�","after":"{\"a\":"}],"chain":"pa","n":1,"hash":"ab"}` + "\n" +
		`{"tenant":"default","seq":2,"at":"2026-03-01T12:00:05Z","actor":"operator","level":"mfa","action":"client.create","type":"Client","id":"c5"}` + "\n"
	if err != nil || n != 2 || b.String() != want {
		t.Errorf("%d, %v\n got %s\nwant %s", n, err, b.String(), want)
	}
	for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
	b.Reset()
	if n, err := Export(t.Context(), l, "default", Query{After: 1, Actor: "operator"}, &b); err != nil || n != 1 || strings.Count(b.String(), "\n") != 1 {
		t.Errorf("after 1: %d, %v, %s", n, err, b.String())
	}
}

// BenchmarkVerify reads and verifies a trail on SQLite.
func BenchmarkVerify(b *testing.B) {
	s := openAt(b, filepath.Join(b.TempDir(), "roster.db"))
	defer func() { closed(b, s) }()
	const entries = 50_000
	fill(b, s, 0, entries)
	b.ReportAllocs()
	for b.Loop() {
		if r := verified(b, s); !r.OK() || r.Entries != entries {
			b.Fatalf("%+v", r)
		}
	}
	b.ReportMetric(float64(entries)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// TestGapInNumbers: the numbers of a chain that is in order follow each other.
func TestGapInNumbers(t *testing.T) {
	var l list
	var hash []byte
	for i := range 6 {
		e := sample(i)
		e.Seq, e.Chain, e.N = int64(i+1), []string{"sa", "sb"}[i/3], int64(1+i%3)
		e.Hash = e.Sum(hash)
		hash = e.Hash
		l = append(l, e)
	}
	if r := verified(t, l); !r.OK() || r.Chains != 2 {
		t.Fatalf("%+v", r)
	}
	for from := range l {
		moved := slices.Clone(l)
		for i := from; i < len(moved); i++ {
			moved[i].Seq += 10
		}
		if r := verified(t, moved); r.Faulty != 1 || r.Faults[0].Kind != Misplaced {
			t.Errorf("from entry %d on: %+v", from+1, r)
		}
	}
}
