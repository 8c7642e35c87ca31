package auth

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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

// passwordParams are OWASP's minimum for argon2id. Directory passwords arrive in
// bulk from identity providers, which rules out much more.
var passwordParams = argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// passwordQueue is how many callers may wait for a core.
const passwordQueue = 32

// Hasher hashes passwords with argon2id. Each hash takes a core for tens of
// milliseconds and 19 MiB, so a Hasher computes at most one per core at a time,
// lets a few callers wait, and turns the rest away. It is safe for concurrent
// use.
type Hasher struct {
	admitted chan struct{} // at work or waiting
	working  chan struct{}
}

// NewHasher makes a Hasher for the cores at hand.
func NewHasher() *Hasher {
	cores := runtime.GOMAXPROCS(0)
	return &Hasher{
		admitted: make(chan struct{}, cores+passwordQueue),
		working:  make(chan struct{}, cores),
	}
}

// Hash returns the hash of a password in PHC string format, with a new salt. The
// password is hashed as its NFKC form, so that it does not matter how a keyboard
// composes it. The error is ErrPasswordEmpty, ErrPasswordTooLong, ErrBusy, or
// that of ctx if it ended while waiting.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	password, err := preparePassword(password)
	if err != nil {
		return "", err
	}
	if err := h.acquire(ctx); err != nil {
		return "", err
	}
	defer h.release()
	return argon2id.CreateHash(password, &passwordParams)
}

// Verify reports whether a password is the one that phc was made from, with the
// parameters that stand in phc. Errors are those of Hash and ErrPasswordHash.
func (h *Hasher) Verify(ctx context.Context, password, phc string) (bool, error) {
	password, err := preparePassword(password)
	if err != nil {
		return false, err
	}
	if err := checkHash(phc); err != nil {
		return false, err
	}
	if err := h.acquire(ctx); err != nil {
		return false, err
	}
	defer h.release()
	return argon2id.ComparePasswordAndHash(password, phc)
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

func (h *Hasher) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case h.admitted <- struct{}{}:
	default:
		return ErrBusy
	}
	select {
	case h.working <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-h.admitted
		return ctx.Err()
	}
}

func (h *Hasher) release() {
	<-h.working
	<-h.admitted
}
