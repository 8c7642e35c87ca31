package auth

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// spellingsOf returns how a secret could be written down.
func spellingsOf(secret string) map[string]string {
	b := []byte(secret)
	raw64 := base64.RawStdEncoding.EncodeToString(b)
	return map[string]string{
		"raw": secret, "hex": hex.EncodeToString(b), "HEX": strings.ToUpper(hex.EncodeToString(b)),
		// Without the last characters, which depend on what follows.
		"base64": raw64[:len(raw64)-2], "base64url": base64.RawURLEncoding.EncodeToString(b)[:len(raw64)-2],
		"base32": base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b),
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// keyRoot returns the newest key as it is in the file.
func (d *directory) keyRoot() []byte {
	_, k := d.Keys.current()
	return k.root
}
