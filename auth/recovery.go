package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"io"

	"github.com/roster-id/roster/storage"
)

const (
	recoveryCodes  = 10
	recoveryDigits = 24 // of five bits
)

// newRecoveryCodes returns the codes a user is given once, and what is stored.
func newRecoveryCodes(random io.Reader, tenant storage.TenantID, user string) (codes []Secret, hashes [][]byte, err error) {
	for range recoveryCodes {
		c, err := newReadable(random, recoveryDigits)
		if err != nil {
			return nil, nil, err
		}
		codes = append(codes, c)
		hashes = append(hashes, hashRecoveryCode(tenant, user, c.Reveal()))
	}
	return codes, hashes, nil
}

// hashRecoveryCode binds a code to its owner. A fast hash is enough: there are too
// many codes to try them all.
func hashRecoveryCode(tenant storage.TenantID, user, code string) []byte {
	h := sha256.New()
	for _, part := range []string{"recovery", string(tenant), user, canonicalReadable(code)} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(part)))
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// takeRecoveryCode removes a code from those that are left, and reports whether it
// was one of them. It compares with all of them.
func (c *Credential) takeRecoveryCode(tenant storage.TenantID, user, code string) bool {
	hash := hashRecoveryCode(tenant, user, code)
	at := -1
	for i, h := range c.Recovery {
		if subtle.ConstantTimeCompare(h, hash) == 1 {
			at = i
		}
	}
	if at < 0 {
		return false
	}
	left := make([][]byte, 0, len(c.Recovery))
	c.Recovery = append(append(left, c.Recovery[:at]...), c.Recovery[at+1:]...)
	return true
}
