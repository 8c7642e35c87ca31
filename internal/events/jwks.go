package events

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
)

// JWK is a public key that checks security event tokens (RFC 8037).
type JWK struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

// JWKS is a set of keys (RFC 7517).
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// Keys returns the keys that check tokens, that of the newest key in the key file first;
// former ones as long as the file has them.
func (s *Feeds) Keys() JWKS {
	var out JWKS
	for _, k := range s.keys.EventKeys() {
		out.Keys = append(out.Keys, JWK{"OKP", "Ed25519", base64.RawURLEncoding.EncodeToString(k), thumbprint(k), "sig", "EdDSA"})
	}
	return out
}

func keyID(k ed25519.PrivateKey) string { return thumbprint(k.Public().(ed25519.PublicKey)) }

// thumbprint is that of RFC 7638.
func thumbprint(k ed25519.PublicKey) string {
	h := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(k) + `"}`))
	return base64.RawURLEncoding.EncodeToString(h[:])
}
