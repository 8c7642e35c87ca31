package auth

import (
	"bytes"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"image/png"
	"io"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/roster-id/roster/storage"
)

// Passcodes are those of RFC 6238 with what authenticator apps expect: SHA-1, six
// digits, thirty seconds, and a secret of 160 bits.
const (
	totpPeriod = 30
	totpSecret = 20
	// totpDrift is how many steps a clock may be off, either way.
	totpDrift = 1
	// totpPoisoned is how far ahead of now the last step can be when clocks are
	// right. Beyond it, a clock was wrong when the code was used.
	totpPoisoned = 2
)

// Factor is a TOTP secret of a user.
type Factor struct {
	Sealed []byte `json:"sealed"` // by a KeyRing, see factorAAD
	// Since is when the factor was confirmed, or when it was made if it has not
	// been.
	Since time.Time `json:"since"`
	// LastStep is the time step of the last code that was accepted: a code counts
	// only if it is of a later one.
	LastStep int64 `json:"lastStep,omitzero"`
	// Session is the one in which the factor was made, until it is confirmed.
	Session string `json:"session,omitzero"`
}

// LastUsed is when a passcode of the factor was last accepted, to half a minute, as the
// clock of its app had it.
func (f *Factor) LastUsed() time.Time {
	return time.Unix(f.LastStep*totpPeriod, 0).UTC()
}

// factorAAD binds a sealed secret to its owner.
func factorAAD(tenant storage.TenantID, user string) []string {
	return []string{string(tenant), "totp", user}
}

// Enrolment is a new TOTP secret, in the forms that authenticator apps take. It is
// shown once.
type Enrolment struct {
	URI    Secret // otpauth://totp/…
	Secret Secret // the secret in base32, to be typed
	QR     []byte // the URI as an image, PNG
}

func newEnrolment(random io.Reader, issuer, account string) (*Enrolment, []byte, error) {
	secret := make([]byte, totpSecret)
	if _, err := io.ReadFull(random, secret); err != nil {
		return nil, nil, err
	}
	key, err := totp.Generate(totp.GenerateOpts{
		// A colon separates the two.
		Issuer: strings.ReplaceAll(issuer, ":", " "), AccountName: account,
		Period: totpPeriod, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1, Secret: secret,
	})
	if err != nil {
		return nil, nil, errors.New("make a TOTP key: the issuer and the account need names")
	}
	image, err := key.Image(256, 256)
	if err != nil {
		return nil, nil, errors.New("make a TOTP key: it does not fit into a QR image") // the error may quote it
	}
	var qr bytes.Buffer
	if err := png.Encode(&qr, image); err != nil {
		return nil, nil, fmt.Errorf("make a TOTP key: %w", err)
	}
	return &Enrolment{URI: Secret(key.URL()), Secret: Secret(key.Secret()), QR: qr.Bytes()}, secret, nil
}

// validPasscode reports whether a text is six ASCII digits and nothing else.
func validPasscode(code string) bool {
	if len(code) != 6 {
		return false
	}
	for i := range len(code) {
		if code[i] < '0' || code[i] > '9' {
			return false
		}
	}
	return true
}

// step returns the time step of RFC 6238 that now is in.
func step(now time.Time) int64 { return now.Unix() / totpPeriod }

// passcodeStep returns the step whose code this is, among those that are accepted
// at a time. It compares with all of them.
func passcodeStep(secret []byte, code string, now time.Time) (at int64, ok bool, err error) {
	if !validPasscode(code) {
		return 0, false, nil
	}
	text := base32.StdEncoding.EncodeToString(secret)
	for i := int64(-totpDrift); i <= totpDrift; i++ {
		s := step(now) + i
		if s < 0 {
			continue
		}
		want, err := hotp.GenerateCodeCustom(text, uint64(s), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, false, errors.New("the TOTP secret is damaged")
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			at, ok = s, true
		}
	}
	return at, ok, nil
}

// take accepts a code once: it moves LastStep, and whoever calls it stores that in
// the same write in which the code counts.
func (f *Factor) take(keys *KeyRing, tenant storage.TenantID, user, code string, now time.Time) (outcome, error) {
	if f.LastStep > step(now)+totpPoisoned {
		return poisoned, nil
	}
	secret, err := keys.Open(f.Sealed, factorAAD(tenant, user)...)
	if err != nil {
		return failed, err
	}
	s, ok, err := passcodeStep(secret, code, now)
	switch {
	case err != nil:
		return failed, err
	case !ok:
		return wrong, nil
	case s <= f.LastStep:
		return replayed, nil
	}
	f.LastStep = s
	return accepted, nil
}
