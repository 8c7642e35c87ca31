package auth

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/roster-id/roster/storage"
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

// TestNothingTold: V24. What people gave, and were given, is in no log, no error, no
// metric and no audit entry, in any spelling.
func TestNothingTold(t *testing.T) {
	d := newDirectory(t)
	var told bytes.Buffer
	d.Log = slog.New(slog.NewJSONHandler(&told, &slog.HandlerOptions{Level: slog.LevelDebug}))
	id := d.add("ana", false)
	dev, p := d.enrol("ana")
	secrets := []string{goodPassword, "Kanarie-Password-7", "canary-code-5271", "canary-recovery-9x", "canary-name-4411", string(dev.raw()), dev.secret, string(d.keyRoot())}
	say := func(err error) {
		if err != nil {
			told.WriteString(err.Error() + "\n")
		}
	}
	try := func(r SignInRequest) {
		r.Tenant = storage.DefaultTenant
		res, err := d.SignIn(t.Context(), r)
		say(err)
		if res != nil {
			secrets = append(secrets, res.Token.Reveal())
			fmt.Fprintf(&told, "%v %+v %#v\n", res, res, *res)
		}
	}
	for _, name := range []string{"ana", "canary-name-4411"} {
		try(SignInRequest{Name: name, Password: "Kanarie-Password-7", Passcode: "canary-code-5271", RecoveryCode: "canary-recovery-9x"})
		try(SignInRequest{Name: name, Password: goodPassword, Passcode: "canary-code-5271"})
		try(SignInRequest{Name: name, Password: goodPassword, RecoveryCode: "canary-recovery-9x"})
	}
	d.clock.advance(longestDelay)
	try(SignInRequest{Name: "ana", Password: goodPassword})
	_, err := d.ChangePassword(t.Context(), p, goodPassword, "roster")
	say(err)
	_, err = d.ChangePassword(t.Context(), p, "Kanarie-Password-7", "another canary, please")
	say(err)
	_, err = d.UseSetup(t.Context(), SetupRequest{Text: "canary-code-5271", Password: "Kanarie-Password-7"})
	say(err)
	_, err = d.VerifySession(t.Context(), "canary-code-5271", here)
	say(err)
	// A secret that cannot be opened is logged.
	d.write(func(tx storage.Tx) error {
		c, err := ReadCredential(tx, id)
		if err != nil {
			return err
		}
		c.TOTP.Sealed[len(c.TOTP.Sealed)-1] ^= 1
		return SaveCredential(tx, id, c)
	})
	d.clock.advance(longestDelay)
	try(SignInRequest{Name: "ana", Password: goodPassword, Passcode: Secret(dev.code())})
	if !strings.Contains(told.String(), "cannot be used") {
		t.Error("nothing was logged, so this test shows little")
	}
	entries, err := d.Store.AuditEntries(t.Context(), storage.DefaultTenant, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&told, "%+v\n%v\n", entries, d.observed)
	for _, c := range dev.codes {
		secrets = append(secrets, c.Reveal())
	}
	for _, secret := range secrets {
		for spelling, text := range spellingsOf(secret) {
			if strings.Contains(told.String(), text) {
				t.Errorf("%q is told, %s", secret, spelling)
			}
		}
	}
}
