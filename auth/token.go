package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"strings"
	"time"

	"github.com/roster-id/roster/storage"
)

const (
	// DefaultTokenLifetime is how long a token is valid if nobody says.
	DefaultTokenLifetime = 180 * 24 * time.Hour
	// MaxTokenLifetime is the longest a token may be valid (RFC 7644 §7.4 asks
	// for a limit).
	MaxTokenLifetime = 365 * 24 * time.Hour
)

// TokenPattern is a regular expression for the text of a token, unanchored, for
// secret scanners to be told of. The four parts are a fixed prefix, the public
// id, the secret (256 bits) and a checksum: the CRC-32 (IEEE) of
// "roster_<id>_<secret>". All are base62 with the digits 0-9A-Za-z, most
// significant first, padded with zeros.
const TokenPattern = `roster_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}`

const (
	tokenPrefix = "roster_"
	idLen       = 12
	secretLen   = 43 // 62^43 is a little more than 2^256
	sumLen      = 6  // 62^6 is more than 2^32

	idAt     = len(tokenPrefix)
	secretAt = idAt + idLen + 1
	sumAt    = secretAt + secretLen + 1
	tokenLen = sumAt + sumLen
)

// NewToken makes a token for a client, valid from created for lifetime. It
// returns its text, which is kept nowhere else, and what to store. random must
// be crypto/rand.Reader outside of tests.
func NewToken(random io.Reader, client string, created time.Time, lifetime time.Duration) (Secret, *storage.Token, error) {
	if client == "" {
		return "", nil, errors.New("new token: no client")
	}
	if lifetime <= 0 || lifetime > MaxTokenLifetime {
		return "", nil, fmt.Errorf("new token: a token is valid for at most %d days", MaxTokenLifetime/(24*time.Hour))
	}
	b := make([]byte, 0, tokenLen)
	b = append(b, tokenPrefix...)
	b, err := appendRandomDigits(b, random, idLen)
	if err != nil {
		return "", nil, fmt.Errorf("new token: %w", err)
	}
	var secret [32]byte
	if _, err := io.ReadFull(random, secret[:]); err != nil {
		return "", nil, fmt.Errorf("new token: %w", err)
	}
	b = append(b, '_')
	b = appendNumber(b, secret)
	sum := checksum(string(b))
	b = append(b, '_')
	b = append(b, sum[:]...)
	hash := sha256.Sum256(b)
	return Secret(b), &storage.Token{
		ID: string(b[idAt : idAt+idLen]), Client: client, Hash: hash[:],
		Created: created, Expires: created.Add(lifetime),
	}, nil
}

// ParseToken returns the public id of a token if the text is whole: the shape
// fits and the checksum is right. That says nothing about whether the token was
// ever issued.
func ParseToken(text string) (id string, ok bool) {
	id, ok = shapedToken(text)
	if !ok || !hasChecksum(text) {
		return "", false
	}
	return id, true
}

// shapedToken is ParseToken without the checksum.
func shapedToken(text string) (id string, ok bool) {
	if len(text) != tokenLen || !strings.HasPrefix(text, tokenPrefix) ||
		text[secretAt-1] != '_' || text[sumAt-1] != '_' {
		return "", false
	}
	id = text[idAt : idAt+idLen]
	if !isBase62(id) || !isBase62(text[secretAt:secretAt+secretLen]) {
		return "", false
	}
	return id, true
}

// hasChecksum reports whether the checksum of a text with the shape of a token is right.
func hasChecksum(text string) bool {
	sum := checksum(text[:sumAt-1])
	return text[sumAt:] == string(sum[:])
}

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func isBase62(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

func checksum(s string) (sum [sumLen]byte) {
	// crc32.ChecksumIEEE wants bytes and moves them to the heap; this is on the
	// hot path.
	n := ^uint32(0)
	for i := range len(s) {
		n = crc32.IEEETable[byte(n)^s[i]] ^ n>>8
	}
	n = ^n
	for i := sumLen - 1; i >= 0; i-- {
		sum[i] = digits[n%62]
		n /= 62
	}
	return sum
}

// appendRandomDigits appends n random digits, all equally likely.
func appendRandomDigits(b []byte, random io.Reader, n int) ([]byte, error) {
	var buf [1]byte
	for n > 0 {
		if _, err := io.ReadFull(random, buf[:]); err != nil {
			return nil, err
		}
		// 248 is the largest multiple of 62 in a byte; what lies above would
		// favour the first eight digits.
		if buf[0] < 248 {
			b = append(b, digits[buf[0]%62])
			n--
		}
	}
	return b, nil
}

// appendNumber appends a 256-bit number as secretLen digits, so that each number
// has exactly one text.
func appendNumber(b []byte, number [32]byte) []byte {
	var limbs [4]uint64
	for i := range limbs {
		limbs[i] = binary.BigEndian.Uint64(number[8*i:])
	}
	var text [secretLen]byte
	for i := secretLen - 1; i >= 0; i-- {
		var rem uint64
		for j := range limbs {
			limbs[j], rem = bits.Div64(rem, limbs[j], 62)
		}
		text[i] = digits[rem]
	}
	return append(b, text[:]...)
}
