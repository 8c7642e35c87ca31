package auth

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

func TestPassword(t *testing.T) {
	h := NewHasher()
	phc, err := h.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("Hash = %s; want the parameters in it", phc)
	}
	// 16 bytes of salt and 32 of key, in base64 without padding.
	if parts := strings.Split(phc, "$"); len(parts) != 6 || len(parts[4]) != 22 || len(parts[5]) != 43 {
		t.Errorf("Hash = %s; want a 16-byte salt and a 32-byte key", phc)
	}
	for password, want := range map[string]bool{"correct horse": true, "correct horse ": false, "Correct horse": false, "correct": false} {
		if got, err := h.Verify(t.Context(), password, phc); err != nil || got != want {
			t.Errorf("Verify(%q) = %v, %v; want %v", password, got, err, want)
		}
	}
	again, err := h.Hash(t.Context(), "correct horse")
	if err != nil || again == phc {
		t.Errorf("two hashes of one password are equal (%v)", err)
	}
}

// TestHasherOfAServer: what a server hashes with: more for an administrator, one at a time
// for each core, and 32 who wait.
func TestHasherOfAServer(t *testing.T) {
	h := NewHasher()
	for administrator, want := range map[bool]string{false: "$argon2id$v=19$m=19456,t=2,p=1$", true: "$argon2id$v=19$m=65536,t=3,p=1$"} {
		phc, err := h.hash(t.Context(), "correct horse", administrator)
		if err != nil || !strings.HasPrefix(phc, want) {
			t.Errorf("administrator %t: %.40s, %v; want %s", administrator, phc, err, want)
		}
	}
	if cores := runtime.GOMAXPROCS(0); cap(h.working) != cores || cap(h.admitted) != cores+32 {
		t.Errorf("%d at work and %d in all, on %d cores; want 32 to wait", cap(h.working), cap(h.admitted), cores)
	}
}

// TestPasswordForms: the same password typed on different keyboards.
func TestPasswordForms(t *testing.T) {
	h := NewHasher()
	phc, err := h.Hash(t.Context(), "Zürich ﬁn ①") // composed, ligature, circled digit
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := h.Verify(t.Context(), "Zu\u0308rich fin 1", phc); err != nil || !ok {
		t.Errorf("Verify = %v, %v; want true", ok, err)
	}
}

func TestPasswordLimits(t *testing.T) {
	h := NewHasher()
	phc, err := h.Hash(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, password string
		want           error
	}{
		{"empty", "", ErrPasswordEmpty},
		{"128 characters", strings.Repeat("a", 128), nil},
		{"129 characters", strings.Repeat("a", 129), ErrPasswordTooLong},
		{"128 characters of 4 bytes", strings.Repeat("😀", 128), nil},
		{"129 characters of 4 bytes", strings.Repeat("😀", 129), ErrPasswordTooLong},
		{"513 bytes", strings.Repeat("\xf0\x9f\x98\x80", 128) + "a", ErrPasswordTooLong},
		{"1 MiB", strings.Repeat("a", 1<<20), ErrPasswordTooLong},
	} {
		if _, err := h.Hash(t.Context(), test.password); !errors.Is(err, test.want) {
			t.Errorf("%s: Hash: %v; want %v", test.name, err, test.want)
		}
		if _, err := h.Verify(t.Context(), test.password, phc); !errors.Is(err, test.want) {
			t.Errorf("%s: Verify: %v; want %v", test.name, err, test.want)
		}
	}
}

// TestLongPasswordsAreRefusedBeforeHashing: with every core busy and nobody
// allowed to wait, the answer is still about the length.
func TestLongPasswordsAreRefusedBeforeHashing(t *testing.T) {
	h := &Hasher{} // with room for nobody
	long := strings.Repeat("a", 1<<20)
	if _, err := h.Hash(t.Context(), long); !errors.Is(err, ErrPasswordTooLong) {
		t.Errorf("Hash: %v; want ErrPasswordTooLong", err)
	}
	if _, err := h.Hash(t.Context(), "short"); !errors.Is(err, ErrBusy) {
		t.Errorf("Hash: %v; want ErrBusy, or this test shows nothing", err)
	}
}

func TestDamagedHashes(t *testing.T) {
	const salt, key = "c29tZXNhbHRzb21lc2FsdA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	h := NewHasher()
	for _, phc := range []string{
		"", "x", "$argon2id$v=19$m=19456,t=2,p=1$" + salt,
		"$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=16$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=0,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=4294967295,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=4000000000,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$", // would equal any password's
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$AAAA",
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$!" + key[1:],
	} {
		if ok, err := h.Verify(t.Context(), "x", phc); ok || !errors.Is(err, ErrPasswordHash) {
			t.Errorf("Verify(%q) = %v, %v; want ErrPasswordHash", phc, ok, err)
		}
	}
}

func TestHasherQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hasher{admitted: make(chan struct{}, 1+2), working: make(chan struct{}, 1), others: passwordParams}
		atWork, err := h.admit("x")
		if err != nil {
			t.Fatal(err)
		}
		h.working <- struct{}{}
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		for range 2 {
			waiting.Go(func() {
				if _, err := h.Hash(ctx, "x"); !errors.Is(err, context.Canceled) {
					t.Errorf("Hash of a caller who left: %v; want context.Canceled", err)
				}
			})
		}
		synctest.Wait()
		if _, err := h.Hash(t.Context(), "x"); !errors.Is(err, ErrBusy) {
			t.Errorf("Hash with a full queue: %v; want ErrBusy", err)
		}
		if _, err := h.Verify(t.Context(), "x", "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"); !errors.Is(err, ErrBusy) {
			t.Errorf("Verify with a full queue: %v; want ErrBusy", err)
		}
		cancel()
		waiting.Wait()
		if _, err := h.Hash(ctx, "x"); !errors.Is(err, context.Canceled) {
			t.Errorf("Hash after the caller left: %v; want context.Canceled", err)
		}
		<-h.working
		atWork.release()
		if _, err := h.Hash(t.Context(), "x"); err != nil {
			t.Errorf("Hash when all is quiet: %v", err)
		}
		if len(h.admitted) != 0 || len(h.working) != 0 {
			t.Errorf("%d admitted and %d working are left over", len(h.admitted), len(h.working))
		}
	})
}

// TestHashesAtOnce starts as many hashes as a Hasher takes, and more.
func TestHashesAtOnce(t *testing.T) {
	h := NewHasher()
	var mu sync.Mutex
	done, busy := 0, 0
	var wg sync.WaitGroup
	for range 2 * cap(h.admitted) {
		wg.Go(func() {
			_, err := h.Hash(t.Context(), "x")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				done++
			case errors.Is(err, ErrBusy):
				busy++
			default:
				t.Errorf("Hash: %v", err)
			}
		})
	}
	wg.Wait()
	if done < cap(h.admitted) || done+busy != 2*cap(h.admitted) {
		t.Errorf("%d hashed and %d turned away; want at least %d hashed", done, busy, cap(h.admitted))
	}
	if len(h.admitted) != 0 || len(h.working) != 0 {
		t.Errorf("%d admitted and %d working are left over", len(h.admitted), len(h.working))
	}
}

func BenchmarkHash(b *testing.B) {
	h := NewHasher()
	for b.Loop() {
		if _, err := h.Hash(b.Context(), "correct horse"); err != nil {
			b.Fatal(err)
		}
	}
}
