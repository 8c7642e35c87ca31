package mail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/storage"
)

// failing is a Sender that fails as it is told, and then sends.
type failing struct {
	Outbox

	mu     sync.Mutex
	errors []error
	tried  int
}

func (f *failing) Send(ctx context.Context, l *Letter) error {
	f.mu.Lock()
	f.tried++
	var err error
	if len(f.errors) > 0 {
		err, f.errors = f.errors[0], f.errors[1:]
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.Outbox.Send(ctx, l)
}

func (f *failing) attempts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tried
}

// run runs a queue until the test ends or stop is called.
func run(t *testing.T, q *Queue) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func actions(t *testing.T, store storage.Store) (list []string) {
	t.Helper()
	entries, err := store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Action, "mail.") {
			list = append(list, e.Actor+" "+e.Action)
		}
	}
	return list
}

// soon ends a test that would hang; a message that was not there yet when it was looked
// for is sent by the next round.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*lookEvery)
	t.Cleanup(cancel)
	return ctx
}

// TestPut: a message goes at once when its cause has become durable, and never when
// it has not.
func TestPut(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		out := &Outbox{}
		b := newBench(t, store, out)
		stop := run(t, b.Queue)
		never := errors.New("never")
		err := store.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
			return errors.Join(b.Put(tx, storage.DefaultTenant, invitation("never@example.com"), b.time()), never)
		})
		if !errors.Is(err, never) {
			t.Fatal(err)
		}
		b.put(invitation("ana@example.com"))
		letters := out.Letters(soon(t), 1)
		stop()
		if len(letters) != 1 || letters[0].To != "ana@example.com" || letters[0].Language != "en" || !letters[0].Date.Equal(begin) {
			t.Fatalf("sent: %+v", letters)
		}
		if rest := b.list(); len(rest) != 0 {
			t.Errorf("what was sent is still there: %+v", rest)
		}
		if diff := cmp.Diff([]string{"system mail.attempt", "system mail.sent"}, actions(t, store)); diff != "" {
			t.Error(diff)
		}
	})
}

// TestDisabled: a server without mail says so, and sends nothing later either.
func TestDisabled(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		b := newBench(t, store, nil)
		var none *Queue
		for _, q := range []*Queue{b.Queue, none} {
			if q.Enabled() {
				t.Error("Enabled")
			}
			if err := q.Put(nil, storage.DefaultTenant, invitation("ana@example.com"), begin); !errors.Is(err, ErrDisabled) {
				t.Errorf("Put: %v", err)
			}
			if err := q.Retry(t.Context(), storage.DefaultTenant, "x", storage.AuditEntry{}); !errors.Is(err, ErrDisabled) {
				t.Errorf("Retry: %v", err)
			}
			if err := q.Run(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if list := b.list(); len(list) != 0 {
			t.Error(list)
		}
	})
}

// TestDelays: what fails is tried again, ever later, for about a day, and then waits
// for an administrator, who can have it tried anew.
func TestDelays(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		sender := &failing{}
		for range len(delays) + 1 {
			sender.errors = append(sender.errors, &SendError{Reason: ReasonDeferred, Code: 451})
		}
		b := newBench(t, store, sender)
		m := invitation("ana@example.com")
		m.Fields["expires"] = "2026-12-30T00:00:00Z"
		b.put(m)
		for n, d := range delays {
			b.round(t.Context())
			list := b.list()
			if len(list) != 1 || sender.attempts() != n+1 || list[0].Attempts != n+1 || list[0].State != StateWaiting ||
				!list[0].Next.Equal(b.time().Add(d)) || list[0].Reason != ReasonDeferred || list[0].Code != 451 || list[0].To != "ana@example.com" {
				t.Fatalf("after %d attempts: %+v", n+1, list)
			}
			b.advance(d - time.Millisecond)
			if b.round(t.Context()); sender.attempts() != n+1 {
				t.Fatalf("attempt %d was too early", n+2)
			}
			b.advance(time.Millisecond)
		}
		if day := b.time().Sub(begin); day < 20*time.Hour || day > 30*time.Hour {
			t.Errorf("all delays are %v", day)
		}
		b.round(t.Context())
		list := b.list()
		if len(list) != 1 || list[0].State != StateDead || !list[0].Next.IsZero() || list[0].Attempts != len(delays)+1 {
			t.Fatalf("at the end: %+v", list)
		}
		b.advance(7 * 24 * time.Hour)
		if b.round(t.Context()); sender.attempts() != len(delays)+1 {
			t.Error("a dead letter was sent")
		}
		by := storage.AuditEntry{At: b.time(), Actor: "user:u", Action: "mail.retry", Type: "Mail", ID: list[0].ID}
		if err := b.Retry(t.Context(), storage.DefaultTenant, list[0].ID, by); err != nil {
			t.Fatal(err)
		}
		b.round(t.Context())
		if letters := sender.Letters(t.Context(), 0); len(letters) != 1 || letters[0].ID != list[0].ID || len(b.list()) != 0 {
			t.Errorf("tried anew: %+v, left %+v", letters, b.list())
		}
		entries, err := store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(entries, func(e storage.AuditEntry) bool { return e.Action == "mail.retry" })
		if want := stateChange(StateDead, StateWaiting); i < 0 || !cmp.Equal(entries[i].Changes, want) {
			t.Errorf("the entry of the retry is %+v", entries)
		}
		got := metricsOf(t, b)
		for _, line := range []string{`roster_mail_total{kind="invitation",outcome="failed"} 11`, `roster_mail_total{kind="invitation",outcome="dead"} 1`,
			`roster_mail_total{kind="invitation",outcome="sent"} 1`, "roster_mail_queue_length 1"} {
			if !strings.Contains(got, line) {
				t.Errorf("no %s in\n%s", line, got)
			}
		}
	})
}

func metricsOf(t *testing.T, b *bench) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(b.reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
	return w.Body.String()
}

// TestRefused: what a server refuses for good is a dead letter at once; it can be
// discarded.
func TestRefused(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		sender := &failing{errors: []error{&SendError{Reason: ReasonRefused, Code: 550, Permanent: true, Detail: "550 ana@example.com"}}}
		b := newBench(t, store, sender)
		b.put(invitation("ana@example.com"))
		b.put(invitation("bo@example.com"))
		b.round(t.Context())
		list := b.list()
		if len(list) != 1 || list[0].State != StateDead || list[0].Attempts != 1 || list[0].Code != 550 || list[0].Reason != ReasonRefused {
			t.Fatalf("%+v", list)
		}
		if letters := sender.Letters(t.Context(), 0); len(letters) != 1 || letters[0].To != "bo@example.com" {
			t.Errorf("the other one: %+v", letters)
		}
		by := storage.AuditEntry{At: b.time(), Actor: "user:u", Action: "mail.discard", Type: "Mail", ID: list[0].ID}
		if err := b.Discard(t.Context(), "other", list[0].ID, by); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Discard in another tenant: %v", err)
		}
		if err := b.Discard(t.Context(), storage.DefaultTenant, list[0].ID, by); err != nil {
			t.Error(err)
		}
		if err := b.Discard(t.Context(), storage.DefaultTenant, list[0].ID, by); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Discard again: %v", err)
		}
		if list := b.list(); len(list) != 0 {
			t.Errorf("discarded: %+v", list)
		}
	})
}

// TestUnreachable: while the server that takes mail is away, a round tries one
// message and leaves the others alone.
func TestUnreachable(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		away := &SendError{Reason: ReasonUnreachable, Relay: true}
		sender := &failing{errors: []error{away, away}}
		b := newBench(t, store, sender)
		for n := range 5 {
			b.put(invitation(fmt.Sprintf("u%d@example.com", n)))
		}
		for n := range 2 {
			if b.round(t.Context()) || sender.attempts() != n+1 {
				t.Errorf("round %d: %d attempts", n, sender.attempts())
			}
		}
		b.advance(2 * time.Minute)
		if !b.round(t.Context()) || len(sender.Letters(t.Context(), 0)) != 5 {
			t.Errorf("when it is back, %d were sent", len(sender.Letters(t.Context(), 0)))
		}
	})
}

// TestExpires: an invitation is not sent when its link does not work any more, and
// what it said is gone.
func TestExpires(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		sender := &failing{errors: []error{&SendError{Reason: ReasonDeferred}}}
		b := newBench(t, store, sender)
		m := invitation("ana@example.com")
		m.Fields["expires"] = begin.Add(time.Minute).Format(time.RFC3339)
		b.put(m)
		b.round(t.Context())
		b.advance(time.Minute)
		b.round(t.Context())
		list := b.list()
		if len(list) != 1 || sender.attempts() != 1 || list[0].State != StateDead || list[0].Reason != ReasonExpired || list[0].To != "" {
			t.Fatalf("%d attempts, %+v", sender.attempts(), list)
		}
		i, err := store.Item(t.Context(), storage.DefaultTenant, kind, list[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := readRecord(i); err != nil || r.Sealed != nil || !i.Expires.Equal(b.time().Add(keptDead)) || !slices.Equal(i.Keys, []string{dead}) {
			t.Errorf("kept: %+v, %+v, %v", i, r, err)
		}
		if err := b.Retry(t.Context(), storage.DefaultTenant, list[0].ID, storage.AuditEntry{}); !errors.Is(err, ErrExpired) {
			t.Errorf("Retry: %v", err)
		}
	})
}

// TestTwoWorkers: whichever of several processes comes first sends a message, and
// no other.
func TestTwoWorkers(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		out := &Outbox{}
		b := newBench(t, store, out)
		const messages, workers = 40, 4
		for n := range messages {
			b.put(invitation(fmt.Sprintf("u%d@example.com", n)))
		}
		var wait sync.WaitGroup
		for range workers {
			q := b.another(store, out)
			q.log = b.log
			wait.Go(func() { q.round(t.Context()) })
		}
		wait.Wait()
		count := map[string]int{}
		for _, l := range out.Letters(t.Context(), 0) {
			count[l.To]++
		}
		for to, n := range count {
			if n != 1 {
				t.Errorf("%s has %d", to, n)
			}
		}
		if len(count) != messages {
			t.Errorf("%d of %d were sent; left: %+v", len(count), messages, b.list())
		}
	})
}

// stuck is a Sender that does not come back before it is let go.
type stuck struct{ begun, leave chan struct{} }

func (s *stuck) Send(context.Context, *Letter) error {
	close(s.begun)
	<-s.leave
	return nil
}

// TestCrash: what a process was sending when it died is sent by another one when the
// lease has run out, with the same Message-ID; and if the first one was alive after
// all, it does not disturb the second one.
func TestCrash(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		s := &stuck{make(chan struct{}), make(chan struct{})}
		b := newBench(t, store, s)
		b.put(invitation("ana@example.com"))
		id := b.list()[0].ID
		var wait sync.WaitGroup
		wait.Go(func() { b.round(t.Context()) })
		<-s.begun
		if list := b.list(); list[0].State != StateSending {
			t.Errorf("while it is sent: %+v", list)
		}
		if err := b.Retry(t.Context(), storage.DefaultTenant, id, storage.AuditEntry{}); !errors.Is(err, ErrSending) {
			t.Errorf("Retry: %v", err)
		}
		sender := &failing{errors: []error{&SendError{Reason: ReasonDeferred}}}
		other := b.another(store, sender)
		b.advance(lease - time.Millisecond)
		if other.round(t.Context()); sender.attempts() != 0 {
			t.Error("the lease was not respected")
		}
		b.advance(time.Millisecond)
		if other.round(t.Context()); sender.attempts() != 1 {
			t.Error("the lease did not run out")
		}
		close(s.leave)
		wait.Wait()
		if list := b.list(); len(list) != 1 || list[0].Attempts != 2 {
			t.Fatalf("the late one changed something: %+v", list)
		}
		b.advance(delays[1])
		other.round(t.Context())
		if letters := sender.Letters(t.Context(), 0); len(letters) != 1 || letters[0].ID != id {
			t.Errorf("%+v", letters)
		}
	})
}

// TestMailClockBack: mail does not wait until a clock that was ahead is there again, neither
// behind a lease nor for an attempt.
func TestMailClockBack(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, 48 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			onStores(t, func(t *testing.T, store storage.Store) {
				sender := &failing{errors: []error{&SendError{Reason: ReasonDeferred}}}
				b := newBench(t, store, sender)
				b.put(invitation("ana@example.com"))
				b.put(invitation("bo@example.com"))
				first, second := b.list()[0].ID, b.list()[1].ID
				b.advance(ahead)
				b.put(invitation("cy@example.com"))
				if r, err := b.claim(t.Context(), place{storage.DefaultTenant, first}); err != nil || r == nil { // and is gone
					t.Fatal(r, err)
				}
				b.deliver(t.Context(), place{storage.DefaultTenant, second})
				b.advance(-ahead)
				b.round(t.Context())
				if letters := sender.Letters(t.Context(), 0); len(letters) != 3 {
					t.Errorf("%d letters after the clock went back, want 3: %+v", len(letters), b.list())
				}
			})
		})
	}
}

// TestCrashes: what brings every process down that tries to send it does not do so
// for ever.
func TestCrashes(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		b := newBench(t, store, &Outbox{})
		b.put(func() Message {
			m := invitation("ana@example.com")
			m.Fields["expires"] = "2027-01-01T00:00:00Z"
			return m
		}())
		p := place{storage.DefaultTenant, b.list()[0].ID}
		for n := range len(delays) + 1 {
			if r, err := b.claim(t.Context(), p); err != nil || r == nil {
				t.Fatalf("claim %d: %v, %v", n, r, err)
			}
			b.advance(lease)
		}
		if r, err := b.claim(t.Context(), p); err != nil || r != nil {
			t.Errorf("one more: %v, %v", r, err)
		}
		if list := b.list(); list[0].State != StateDead {
			t.Errorf("%+v", list)
		}
	})
}

// TestRestart: what was put and not sent is sent by the next process.
func TestRestart(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		out := &Outbox{}
		b := newBench(t, store, out)
		b.put(invitation("ana@example.com"))
		b.Queue = b.another(store, out)
		run(t, b.Queue)
		if letters := out.Letters(soon(t), 1); len(letters) != 1 {
			t.Errorf("%+v", letters)
		}
	})
}

// TestSealed: neither the store nor the log has anything of what a message says or of whom it
// is for, whatever becomes of it, and another key does not open it.
func TestSealed(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		sender := &failing{errors: []error{
			&SendError{Reason: ReasonDeferred, Code: 450, Detail: "450 ana@example.com"}, errors.New("ana@example.com"),
			&SendError{Reason: ReasonRefused, Code: 550, Permanent: true, Detail: "ana@example.com"},
		}}
		b := newBench(t, store, sender)
		b.put(invitation("ana@example.com"))
		look := func(when string) {
			t.Helper()
			items, err := store.Items(t.Context(), storage.DefaultTenant, kind, "")
			if err != nil || len(items) != 1 {
				t.Fatal(items, err)
			}
			entries, err := store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 100)
			if err != nil {
				t.Fatal(err)
			}
			all := fmt.Sprintf("%s %q %+v %s", items[0].Data, items[0].Keys, entries, b.logs)
			for _, secret := range []string{"k7Zq9sTLpWc2", "ana@example.com", "Öberg", "ombord", "Fartyg"} {
				if strings.Contains(all, secret) {
					t.Errorf("%s: %s is in %s", when, secret, all)
				}
			}
		}
		look("queued")
		for range 3 {
			b.round(t.Context())
			b.advance(time.Hour)
			look("tried")
		}
		if list := b.list(); list[0].State != StateDead {
			t.Errorf("%+v", list)
		}
		// Another key, and the same item under another id.
		r := func() record {
			i, err := store.Item(t.Context(), storage.DefaultTenant, kind, b.list()[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			r, err := readRecord(i)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}()
		if _, err := b.message(storage.DefaultTenant, "other", r); !errors.Is(err, auth.ErrSealed) {
			t.Errorf("under another id: %v", err)
		}
		if _, err := newBench(t, store, sender).message(storage.DefaultTenant, b.list()[0].ID, r); !errors.Is(err, auth.ErrSealed) {
			t.Errorf("with another key: %v", err)
		}
		if err := newKeys(t).Check(t.Context(), store); err == nil {
			t.Error("a key file of another store is accepted")
		}
	})
}

// TestNotDumped: mail that waits is no part of a dump.
func TestNotDumped(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		b := newBench(t, store, &Outbox{})
		b.put(invitation("ana@example.com"))
		for r, err := range store.Dump(t.Context(), storage.DefaultTenant) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Item != nil && r.Item.Kind == kind {
				t.Errorf("%+v", r.Item)
			}
		}
	})
}

// TestRotated: mail that waits can be sent after the key that it was sealed with has
// gone.
func TestRotated(t *testing.T) {
	onStores(t, func(t *testing.T, store storage.Store) {
		out := &Outbox{}
		b := newBench(t, store, out)
		path := filepath.Join(t.TempDir(), "roster.keys")
		if err := auth.CreateKeyFile(path); err != nil {
			t.Fatal(err)
		}
		load := func() {
			var err error
			if b.keys, err = auth.LoadKeyRing(path); err != nil {
				t.Fatal(err)
			}
			b.Queue = b.another(store, out)
		}
		load()
		for n := range 3 {
			b.put(invitation(fmt.Sprintf("u%d@example.com", n)))
		}
		if _, err := auth.AddKey(path); err != nil {
			t.Fatal(err)
		}
		kinds := auth.Sealed{Kind: SealedKind, Reseal: func(k *auth.KeyRing, tenant storage.TenantID, i *storage.Item) (*storage.Item, error) {
			return Reseal(k, tenant, i)
		}}
		for _, want := range []int{3, 0} {
			if n, err := b.keys.Rotate(t.Context(), store, b.time, kinds); err != nil || n != want {
				t.Fatalf("Rotate = %d, %v; want %d", n, err, want)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		if err := os.WriteFile(path, lines[len(lines)-1], 0o600); err != nil {
			t.Fatal(err)
		}
		load()
		if err := b.keys.Check(t.Context(), store); err != nil {
			t.Error(err)
		}
		b.round(t.Context())
		if letters := out.Letters(t.Context(), 0); len(letters) != 3 {
			t.Errorf("%d letters", len(letters))
		}
	})
}

// TestFolder: one file for each letter, for its owner only, and the same one when a
// letter is sent again.
func TestFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mail")
	m := invitation("åsa@exempel-å.se")
	m.Language = "sv"
	if err := m.check(); err != nil {
		t.Fatal(err)
	}
	l, err := m.render("")
	if err != nil {
		t.Fatal(err)
	}
	l.ID, l.Date = "0199-id", begin
	var stream bytes.Buffer
	for _, s := range []Sender{&Folder{Path: dir, From: sender}, &Folder{Path: dir, From: sender}, &Stream{W: &stream, From: sender}} {
		if err := s.Send(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			info, err := d.Info()
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", path, info, err)
			}
			names = append(names, d.Name())
		}
		return err
	})
	if err != nil || !slices.Equal(names, []string{"0199-id.eml"}) {
		t.Fatalf("files: %q, %v", names, err)
	}
	f, err := os.Open(filepath.Join(dir, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, r := range []io.Reader{f, &stream} {
		got := parse(t, r)
		want := parsed{
			header: map[string]string{"From": `"Roster" <roster@example.com>`, "To": "<åsa@xn--exempel--h0a.se>", "Subject": l.Subject, "Message-Id": "<0199-id@example.com>",
				"Date": "Thu, 26 Nov 2026 09:00:00 +0000", "Auto-Submitted": "auto-generated", "Content-Language": "sv"},
			parts: map[string]string{"text/plain": l.Text, "text/html": l.HTML},
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(parsed{})); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}
