package auth

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"io"
	"strings"

	"github.com/roster-id/roster/storage"
)

// maxTenant bounds what has to be looked at in a text from outside.
const maxTenant = 200

var tenantEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// newText makes a secret that names its tenant, and the id under which it is
// stored: that of a session, a one-time link, an invitation or the offer of a link.
func newText(random io.Reader, prefix string, tenant storage.TenantID) (text Secret, id string, err error) {
	var secret [32]byte
	if _, err := io.ReadFull(random, secret[:]); err != nil {
		return "", "", err
	}
	b := append([]byte(prefix), tenantEncoding.EncodeToString([]byte(tenant))...)
	b = appendNumber(append(b, '_'), secret)
	sum := checksum(string(b))
	b = append(append(b, '_'), sum[:]...)
	return Secret(b), textID(string(b)), nil
}

// textID is the id of a secret: a hash is enough, for it has 256 bits.
func textID(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

// parseText returns the tenant and the id of a secret if the text is whole, which
// says nothing about whether it was ever issued.
func parseText(prefix, text string) (tenant storage.TenantID, id string, ok bool) {
	rest, ok := strings.CutPrefix(text, prefix)
	tail := 1 + secretLen + 1 + sumLen
	if !ok || len(rest) <= tail || len(rest) > maxTenant+tail {
		return "", "", false
	}
	name, rest := rest[:len(rest)-tail], rest[len(rest)-tail:]
	decoded, err := tenantEncoding.DecodeString(name)
	if err != nil || tenantEncoding.EncodeToString(decoded) != name ||
		rest[0] != '_' || rest[1+secretLen] != '_' || !isBase62(rest[1:1+secretLen]) {
		return "", "", false
	}
	sum := checksum(text[:len(text)-sumLen-1])
	if text[len(text)-sumLen:] != string(sum[:]) {
		return "", "", false
	}
	return storage.TenantID(decoded), textID(text), true
}
