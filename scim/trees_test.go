package scim

import (
	"errors"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// manyValues is a text of 120 KiB whose tree takes 6 MiB.
func manyValues() string { return "[" + strings.Repeat("1,", 60_000) + "1]" }

// TestTreesInMemory: bodies of a few bytes for each value take what their trees take, of one
// client 16 MiB and of all 64 MiB. Who comes then waits, as with the bodies themselves, and
// those that wait do not keep each other waiting.
func TestTreesInMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := NewHandler(&Provider{Now: time.Now}, nil)
		end := make(chan struct{})
		var under atomic.Int32
		ends := make(chan error)
		begin := func(client, body string) {
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(body))
			go func() {
				ends <- h.withBody(r, auth.Principal{Kind: auth.Client, ID: client}, func(any) error {
					under.Add(1)
					<-end
					return nil
				})
			}()
			synctest.Wait()
		}
		for range 3 {
			begin("a", manyValues())
		}
		if under.Load() != 2 {
			t.Errorf("of one client %d are under way, want 2", under.Load())
		}
		begin("b", manyValues())
		begin("a", `"`+strings.Repeat("a", 1<<19)+`"`)
		begin("a", `[`+strings.Repeat("1,", 1<<10)+`1]`)
		if under.Load() != 5 {
			t.Errorf("%d are under way, want 5: another client's, one with a single value and a small one as well", under.Load())
		}
		start := time.Now()
		if err := <-ends; !errors.Is(err, storage.ErrUnavailable) || time.Since(start) != bodyWait {
			t.Errorf("what waits: %v after %v", err, time.Since(start))
		}
		begin("a", manyValues())
		close(end)
		for range 6 {
			if err := <-ends; err != nil {
				t.Error(err)
			}
		}
		if under.Load() != 6 || !h.bodies.all.TryAcquire(maxBodies) || !h.bodies.trees.TryAcquire(maxTrees) || len(h.bodies.of) > 0 {
			t.Errorf("%d were under way, want 6; something is left of them", under.Load())
		}
	})
}

// TestTreeOf: what is set aside is what a tree takes, or some more.
func TestTreeOf(t *testing.T) {
	for name, text := range map[string]string{
		"numbers": manyValues(),
		"arrays":  "[" + strings.Repeat("[],", 30_000) + "[]]",
		"objects": "[" + strings.Repeat(`{"a":1},`, 20_000) + `{}]`,
		"names":   `{"schemas":["x"],"members":[` + strings.Repeat(`{"value":"0123456789","type":"User","display":"Ana"},`, 10_000) + `{}]}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tree, err := schemas.Decode([]byte(text), BodyLimits)
		runtime.ReadMemStats(&after)
		if err != nil || tree == nil {
			t.Fatal(name, err)
		}
		took, want := int64(after.TotalAlloc-before.TotalAlloc)-2*int64(len(text)), treeOf([]byte(text))
		if took > want*5/4 || took < want/3 {
			t.Errorf("%s take %d KiB, and %d are set aside", name, took>>10, want>>10)
		}
	}
}
