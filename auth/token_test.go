package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash/crc32"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func newTestToken(t testing.TB) string {
	t.Helper()
	text, _, err := NewToken(rand.Reader, "c1", time.Now(), DefaultTokenLifetime)
	if err != nil {
		t.Fatal(err)
	}
	return text.Reveal()
}

func TestTokensMatchThePattern(t *testing.T) {
	pattern := regexp.MustCompile(`^(?:` + TokenPattern + `)$`)
	seen := map[string]bool{}
	var secrets [32]map[byte]bool // the values of each byte
	for range 10_000 {
		text := newTestToken(t)
		id, ok := ParseToken(text)
		if !pattern.MatchString(text) || !ok || len(id) != 12 || seen[id] {
			t.Fatalf("%s: matches %v, parses %v, id %q, seen %v", text, pattern.MatchString(text), ok, id, seen[id])
		}
		seen[id] = true
		var secret [32]byte
		decodeBase62(t, text[secretAt:sumAt-1]).FillBytes(secret[:])
		for i, b := range secret {
			if secrets[i] == nil {
				secrets[i] = map[byte]bool{}
			}
			secrets[i][b] = true
		}
	}
	for i, values := range secrets {
		if len(values) != 256 {
			t.Errorf("byte %d of 10,000 secrets has %d values", i, len(values))
		}
	}
}

// TestPatternDoesNotMatchNoise looks for tokens in random base64 of both
// alphabets. ROSTER_TEST_NOISE_MB asks for more than the usual 16 MB of each.
func TestPatternDoesNotMatchNoise(t *testing.T) {
	mb := 16
	if s := os.Getenv("ROSTER_TEST_NOISE_MB"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		mb = n
	}
	pattern := regexp.MustCompile(TokenPattern)
	for name, encoding := range map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64url": base64.URLEncoding} {
		noise := mathrand.NewChaCha8([32]byte{1, 2, 3})
		raw := make([]byte, 750_000)
		text := make([]byte, 1_000_000)
		for range mb {
			_, _ = noise.Read(raw)
			encoding.Encode(text, raw)
			if found := pattern.Find(text); found != nil {
				t.Fatalf("%s: found %s", name, found)
			}
		}
	}
}

// TestNewToken checks each part of a token against a second way to compute it.
func TestNewToken(t *testing.T) {
	created := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	source := mathrand.NewChaCha8([32]byte{9})
	text, token, err := NewToken(source, "c1", created, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(text.Reveal(), "_")
	if len(parts) != 4 || parts[0] != "roster" || len(parts[1]) != 12 || len(parts[2]) != 43 || len(parts[3]) != 6 {
		t.Fatalf("parts are %q", parts)
	}
	sum := decodeBase62(t, parts[3])
	if want := crc32.ChecksumIEEE([]byte("roster_" + parts[1] + "_" + parts[2])); sum.Uint64() != uint64(want) {
		t.Errorf("checksum is %d; want %d", sum, want)
	}
	if n := decodeBase62(t, parts[2]).BitLen(); n > 256 || n < 200 {
		t.Errorf("the secret has %d bits; want up to 256", n)
	}
	hash := sha256.Sum256([]byte(text.Reveal()))
	if token.ID != parts[1] || token.Client != "c1" || string(token.Hash) != string(hash[:]) ||
		!token.Created.Equal(created) || !token.Expires.Equal(created.Add(24*time.Hour)) || !token.LastUsed.IsZero() {
		t.Errorf("token is %+v", token)
	}
}

func TestSecretKeepsAllBits(t *testing.T) {
	last := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
	numbers := []*big.Int{big.NewInt(0), big.NewInt(1), big.NewInt(61), big.NewInt(62), last}
	source := mathrand.New(mathrand.NewPCG(1, 2))
	for range 1000 {
		var b [32]byte
		for i := range b {
			b[i] = byte(source.Uint32())
		}
		numbers = append(numbers, new(big.Int).SetBytes(b[:]))
	}
	for _, n := range numbers {
		var b [32]byte
		n.FillBytes(b[:])
		text := string(appendNumber(nil, b))
		if got := decodeBase62(t, text); len(text) != 43 || got.Cmp(n) != 0 {
			t.Errorf("%d is written %s, which is %d", n, text, got)
		}
	}
}

// TestIDDigitsAreEquallyLikely would fail if bytes were reduced modulo 62, which
// makes eight digits a quarter more frequent than the others.
func TestIDDigitsAreEquallyLikely(t *testing.T) {
	const perDigit = 10_000
	b, err := appendRandomDigits(nil, mathrand.NewChaCha8([32]byte{7}), 62*perDigit)
	if err != nil {
		t.Fatal(err)
	}
	var counts [256]int
	for _, c := range b {
		counts[c]++
	}
	for i := range len(digits) {
		if n := counts[digits[i]]; n < perDigit*95/100 || n > perDigit*105/100 {
			t.Errorf("digit %c appears %d times; want about %d", digits[i], n, perDigit)
		}
	}
}

func TestNewTokenRefuses(t *testing.T) {
	noEntropy := errors.New("no entropy")
	for _, test := range []struct {
		name     string
		random   io.Reader
		client   string
		lifetime time.Duration
	}{
		{"no client", rand.Reader, "", time.Hour},
		{"no lifetime", rand.Reader, "c1", 0},
		{"negative lifetime", rand.Reader, "c1", -time.Hour},
		{"a second too long", rand.Reader, "c1", MaxTokenLifetime + time.Second},
		{"no randomness for the id", iotest.ErrReader(noEntropy), "c1", time.Hour},
		{"no randomness for the secret", strings.NewReader(strings.Repeat("a", 20)), "c1", time.Hour},
	} {
		text, token, err := NewToken(test.random, test.client, time.Now(), test.lifetime)
		if err == nil || text.Reveal() != "" || token != nil {
			t.Errorf("%s: NewToken = %v, %v, %v; want only an error", test.name, text, token, err)
		}
	}
	if _, _, err := NewToken(rand.Reader, "c1", time.Now(), MaxTokenLifetime); err != nil {
		t.Errorf("the longest lifetime: %v", err)
	}
}

func TestParseTokenRefuses(t *testing.T) {
	good := newTestToken(t)
	for name, text := range map[string]string{
		"empty":                           "",
		"prefix only":                     "roster_",
		"other prefix":                    "Roster_" + good[7:],
		"id only":                         good[7:19],
		"without checksum":                good[:63],
		"quotes":                          `"` + good[1:69] + `"`,
		"space in front":                  " " + good[:69],
		"moved separator":                 good[:18] + "_" + good[18:19] + good[20:],
		"not base62 in id":                good[:8] + "-" + good[9:],
		"NUL in the secret":               good[:30] + "\x00" + good[31:],
		"not ASCII":                       good[:30] + "é" + good[32:],
		"newline":                         good[:69] + "\n",
		"right sum, not base62 in id":     withChecksum(good[:8] + "-" + good[9:63]),
		"right sum, not base62 in secret": withChecksum(good[:30] + "/" + good[31:63]),
		"right sum, id too short":         withChecksum(good[:18] + good[19:63]),
	} {
		if id, ok := ParseToken(text); ok || id != "" {
			t.Errorf("%s: ParseToken(%q) = %q, %v; want it refused", name, text, id, ok)
		}
	}
	if _, ok := ParseToken(withChecksum(good[:63])); !ok {
		t.Error("withChecksum does not compute the checksum")
	}
}

// FuzzParseToken checks that what parses matches the published pattern and
// carries the checksum.
func FuzzParseToken(f *testing.F) {
	f.Add(newTestToken(f))
	f.Add("roster_0123456789AB_" + strings.Repeat("z", 43) + "_000000")
	f.Add("")
	pattern := regexp.MustCompile(`^(?:` + TokenPattern + `)$`)
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := ParseToken(text)
		if !ok {
			return
		}
		if !pattern.MatchString(text) || text[7:19] != id || withChecksum(text[:63]) != text {
			t.Errorf("ParseToken(%q) = %q, true", text, id)
		}
	})
}

func withChecksum(body string) string {
	n := new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(body))))
	text := ""
	for range 6 {
		rem := new(big.Int)
		n.DivMod(n, big.NewInt(62), rem)
		text = string(digits[rem.Int64()]) + text
	}
	return body + "_" + text
}

func decodeBase62(t *testing.T, s string) *big.Int {
	t.Helper()
	n := new(big.Int)
	for i := range len(s) {
		digit := strings.IndexByte("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", s[i])
		if digit < 0 {
			t.Fatalf("%q is not base62", s)
		}
		n.Add(n.Mul(n, big.NewInt(62)), big.NewInt(int64(digit)))
	}
	return n
}
