package auth

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	"golang.org/x/text/unicode/norm"
)

// Errors about passwords.
var (
	// ErrBusy: as many passwords as may wait are waiting; try again later.
	ErrBusy = errors.New("too many passwords to hash at once")
	// ErrPasswordTooLong: more than MaxPasswordRunes or MaxPasswordBytes.
	ErrPasswordTooLong = fmt.Errorf("a password may have at most %d characters and %d bytes", MaxPasswordRunes, MaxPasswordBytes)
	// ErrPasswordEmpty: no password at all.
	ErrPasswordEmpty = errors.New("the password is empty")
	// ErrPasswordHash: a stored hash cannot be used.
	ErrPasswordHash = errors.New("the stored password hash is damaged")
)

// The longest password, both in code points and as UTF-8. Longer ones are
// refused before any work is done on them.
const (
	MaxPasswordRunes = 128
	MaxPasswordBytes = 512
)

// Directory passwords arrive in bulk from identity providers, which rules out much
// more than OWASP's minimum for argon2id. There are few administrators, and each
// is worth more.
var (
	passwordParams      = argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
	administratorParams = argon2id.Params{Memory: 64 * 1024, Iterations: 3, Parallelism: 1, SaltLength: 16, KeyLength: 32}
)

// passwordQueue is how many callers may wait for a core.
const passwordQueue = 32

// Hasher hashes passwords with argon2id. Each hash takes a core for tens of
// milliseconds and 19 MiB, or more for an administrator, so a Hasher computes at
// most one per core at a time, lets a few callers wait, and turns the rest away. It
// is safe for concurrent use.
type Hasher struct {
	admitted chan struct{} // at work or waiting
	working  chan struct{}
	memory   hashMemory
	// What new hashes are made with.
	others, administrators argon2id.Params

	worked func() // in tests, told of every hash
}

// NewHasher makes a Hasher for the cores at hand.
func NewHasher() *Hasher {
	cores := runtime.GOMAXPROCS(0)
	return &Hasher{
		admitted: make(chan struct{}, cores+passwordQueue),
		working:  make(chan struct{}, cores),
		memory:   hashMemory{most: cores * int(administratorParams.Memory) << 10},
		others:   passwordParams, administrators: administratorParams,
	}
}

// NewWeakHasher makes a Hasher whose hashes cost next to nothing, for tests of what is
// around passwords. No server uses it.
func NewWeakHasher() *Hasher {
	h := NewHasher()
	h.others.Memory, h.others.Iterations = 8, 1
	h.administrators.Memory, h.administrators.Iterations = 16, 1
	return h
}

// Hash returns the hash of a password in PHC string format, with a new salt. The
// password is hashed as its NFKC form, so that it does not matter how a keyboard
// composes it. The error is ErrPasswordEmpty, ErrPasswordTooLong, ErrBusy, or
// that of ctx if it ended while waiting.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	return h.hash(ctx, password, false)
}

// hash is Hash, for an administrator with more work.
func (h *Hasher) hash(ctx context.Context, password string, administrator bool) (string, error) {
	t, err := h.admit(password)
	if err != nil {
		return "", err
	}
	defer t.release()
	return t.hash(ctx, administrator)
}

// Verify reports whether a password is the one that phc was made from, with the
// parameters that stand in phc. Errors are those of Hash and ErrPasswordHash.
func (h *Hasher) Verify(ctx context.Context, password, phc string) (bool, error) {
	if _, err := preparePassword(password); err != nil {
		return false, err
	}
	if err := checkHash(phc); err != nil {
		return false, err
	}
	t, err := h.admit(password)
	if err != nil {
		return false, err
	}
	defer t.release()
	return t.verify(ctx, phc)
}

// ticket is a place in the queue of a Hasher, for one password.
type ticket struct {
	h        *Hasher
	password string // prepared
}

// admit takes a place in the queue. The error is one of those of Hash, but not that
// of a context. Whoever has a ticket gives it back with release.
func (h *Hasher) admit(password string) (*ticket, error) {
	password, err := preparePassword(password)
	if err != nil {
		return nil, err
	}
	select {
	case h.admitted <- struct{}{}:
		return &ticket{h, password}, nil
	default:
		return nil, ErrBusy
	}
}

func (t *ticket) release() { <-t.h.admitted }

func (t *ticket) hash(ctx context.Context, administrator bool) (phc string, err error) {
	p := t.h.params(administrator)
	err = t.work(ctx, p, func() error {
		phc, err = argon2id.CreateHash(t.password, p)
		return err
	})
	return phc, err
}

func (t *ticket) verify(ctx context.Context, phc string) (ok bool, err error) {
	if err := checkHash(phc); err != nil {
		return false, err
	}
	p, _, _, err := argon2id.DecodeHash(phc)
	if err != nil {
		return false, ErrPasswordHash
	}
	err = t.work(ctx, p, func() error {
		ok, err = argon2id.ComparePasswordAndHash(t.password, phc)
		return err
	})
	return ok, err
}

// work waits for a core and hashes something on it, with these parameters.
func (t *ticket) work(ctx context.Context, p *argon2id.Params, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case t.h.working <- struct{}{}:
		defer func() { <-t.h.working }()
		if t.h.worked != nil {
			t.h.worked()
		}
		bytes := int(p.Memory) << 10
		t.h.memory.take(bytes)
		defer t.h.memory.give(bytes)
		return fn()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *Hasher) params(administrator bool) *argon2id.Params {
	if administrator {
		return &h.administrators
	}
	return &h.others
}

// dummy returns the hash of no password, with the parameters of others: what it
// costs to compare with it tells nobody that there is no account.
func (h *Hasher) dummy(administrator bool) string {
	p := h.params(administrator)
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.Memory, p.Iterations, p.Parallelism,
		strings.Repeat("A", 22), strings.Repeat("A", 43))
}

// outdated reports whether a hash was made with other parameters than new ones
// are.
func (h *Hasher) outdated(phc string, administrator bool) bool {
	p, _, _, err := argon2id.DecodeHash(phc)
	return err == nil && *p != *h.params(administrator)
}

func preparePassword(s string) (string, error) {
	switch {
	case s == "":
		return "", ErrPasswordEmpty
	case len(s) > MaxPasswordBytes || utf8.RuneCountInString(s) > MaxPasswordRunes:
		return "", ErrPasswordTooLong
	}
	return norm.NFKC.String(s), nil
}

// checkHash refuses what would make argon2 panic or take the machine's memory,
// and above all an empty key, which equals that of every password.
func checkHash(phc string) error {
	p, _, key, err := argon2id.DecodeHash(phc)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPasswordHash, err)
	}
	const maxMemory, maxIterations = 256 * 1024, 16
	if len(key) < 16 || p.SaltLength < 8 || p.Memory == 0 || p.Memory > maxMemory ||
		p.Iterations == 0 || p.Iterations > maxIterations || p.Parallelism == 0 {
		return ErrPasswordHash
	}
	return nil
}
