package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	zombiezen "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/config"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// patientStore is a store with a secret in it, its key file and a backup in folders of
// their own.
func patientStore(t *testing.T) (c config.Config, backups string) {
	t.Helper()
	dir := sealed(t, storage.DefaultTenant)
	backups = t.TempDir()
	roster(t, "backup", "--store", dir, "--to", filepath.Join(backups, "b.jsonl"))
	c = config.Default()
	c.Store = config.StoreURL(dir)
	return c, backups
}

// certificateFor writes a certificate that is good between two times.
func certificateFor(t *testing.T, from, to time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	pkcs, keyErr := x509.MarshalPKCS8PrivateKey(private)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(err, keyErr,
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs}), 0o600)); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// greeter is a mail server that says hello, and notes whether it was given a message.
func greeter(t *testing.T) (url string, given func() bool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	heard := make(chan string, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "220 here\r\n")
			b := make([]byte, 512)
			for {
				n, err := conn.Read(b)
				if err != nil {
					conn.Close()
					break
				}
				heard <- string(b[:n])
				fmt.Fprint(conn, "250 well\r\n")
			}
		}
	}()
	return "smtp+plain://" + l.Addr().String(), func() bool {
		for {
			select {
			case s := <-heard:
				if strings.HasPrefix(s, "MAIL") {
					return true
				}
			default:
				return false
			}
		}
	}
}

// TestDoctor: each check says ok where all is well, and what is wrong and what to do where
// it is not.
func TestDoctor(t *testing.T) {
	now := time.Now()
	day := 24 * time.Hour
	clock := func(off time.Duration) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	database := func(t *testing.T, c *config.Config) {
		t.Helper()
		s := mongotest.Start(t)
		c.Store = config.StoreURL(s.URI(s.NewDatabase(t)))
		roster(t, "migrate", "--store", c.Store.Reveal())
	}
	smtp, given := greeter(t)
	mailing := func(c *config.Config, server string) {
		c.Mail.From, c.Mail.SMTP = "roster@example.com", server
	}
	keyOf := func(c *config.Config) string { return filepath.Join(c.Store.Reveal(), "roster.keys") }
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		change func(*testing.T, *config.Config, *doctor)
		check  string
		status string
		says   string // part of it
	}{
		"the settings": {nil, "configuration", "ok", "valid"},
		"a variable that is no setting": {func(_ *testing.T, _ *config.Config, d *doctor) {
			d.environ = []string{"ROSTER_STROE=secret", "ROSTER_STORE=here", "HOME=/root"}
		}, "environment", "warn", "not settings: ROSTER_STROE"},
		"metrics here": {nil, "ops-listen", "ok", "this machine"},
		"metrics for all": {func(_ *testing.T, c *config.Config, _ *doctor) { c.OpsListen = "0.0.0.0:9090" },
			"ops-listen", "warn", "no authentication"},
		"plain HTTP for all": {func(_ *testing.T, c *config.Config, _ *doctor) { c.Listen, c.AllowPlaintext = "0.0.0.0:8080", true },
			"listen", "warn", "without TLS"},
		"a certificate": {func(t *testing.T, c *config.Config, _ *doctor) {
			c.TLSCert, c.TLSKey = certificateFor(t, now.Add(-day), now.Add(90*day))
		}, "certificate", "ok", "valid until"},
		"a certificate that expires soon": {func(t *testing.T, c *config.Config, _ *doctor) {
			c.TLSCert, c.TLSKey = certificateFor(t, now.Add(-day), now.Add(10*day))
		}, "certificate", "warn", "expires on"},
		"a certificate that has expired": {func(t *testing.T, c *config.Config, _ *doctor) {
			c.TLSCert, c.TLSKey = certificateFor(t, now.Add(-9*day), now.Add(-day))
		}, "certificate", "fail", "expired"},
		"a certificate of the future": {func(t *testing.T, c *config.Config, _ *doctor) {
			c.TLSCert, c.TLSKey = certificateFor(t, now.Add(day), now.Add(90*day))
		}, "certificate", "fail", "valid from"},
		"a key that everybody may read": {func(t *testing.T, c *config.Config, _ *doctor) {
			c.TLSCert, c.TLSKey = certificateFor(t, now.Add(-day), now.Add(90*day))
			must(t, os.Chmod(c.TLSKey, 0o644))
		}, "certificate", "fail", "may be read by everybody"},
		"no certificate": {func(_ *testing.T, c *config.Config, _ *doctor) { c.TLSCert, c.TLSKey = "nowhere", "nowhere" },
			"certificate", "fail", "nowhere"},
		"checkpoints that are to come": {func(t *testing.T, c *config.Config, _ *doctor) {
			c.AuditCheckpoints = filepath.Join(t.TempDir(), "checkpoints.jsonl")
		}, "checkpoints", "ok", "first checkpoint"},
		"checkpoints": {func(t *testing.T, c *config.Config, _ *doctor) {
			c.AuditCheckpoints = filepath.Join(t.TempDir(), "checkpoints.jsonl")
			must(t, os.WriteFile(c.AuditCheckpoints, nil, 0o600))
		}, "checkpoints", "ok", "can be appended"},
		"checkpoints in a folder that is not there": {func(t *testing.T, c *config.Config, _ *doctor) {
			c.AuditCheckpoints = filepath.Join(t.TempDir(), "worm", "checkpoints.jsonl")
		}, "checkpoints", "fail", "no such file"},
		"checkpoints that are a folder": {func(t *testing.T, c *config.Config, _ *doctor) { c.AuditCheckpoints = t.TempDir() },
			"checkpoints", "fail", "is a directory"},
		"no mail":                         {nil, "mail", "warn", "no mail is sent"},
		"mail":                            {func(_ *testing.T, c *config.Config, _ *doctor) { mailing(c, smtp) }, "mail", "ok", "responds"},
		"a mail server that is not there": {func(_ *testing.T, c *config.Config, _ *doctor) { mailing(c, "smtp+plain://127.0.0.1:1") }, "mail", "fail", "127.0.0.1:1"},
		"a clock":                         {func(_ *testing.T, _ *config.Config, d *doctor) { d.timeURL = clock(0) }, "clock", "ok", "agrees"},
		"a clock that is off":             {func(_ *testing.T, _ *config.Config, d *doctor) { d.timeURL = clock(15 * time.Second) }, "clock", "warn", "differs by"},
		"a clock that is far off":         {func(_ *testing.T, _ *config.Config, d *doctor) { d.timeURL = clock(-time.Hour) }, "clock", "fail", "1h0m"},
		"a clock that does not answer":    {func(_ *testing.T, _ *config.Config, d *doctor) { d.timeURL = "http://127.0.0.1:1" }, "clock", "warn", "does not respond"},
		"a store":                         {nil, "store", "ok", "schema version"},
		"no store yet":                    {func(t *testing.T, c *config.Config, _ *doctor) { c.Store = config.StoreURL(t.TempDir()) }, "store", "warn", "there is no store"},
		"a store that others can read": {func(t *testing.T, c *config.Config, _ *doctor) {
			must(t, os.Chmod(filepath.Join(c.Store.Reveal(), "roster.db"), 0o644))
		}, "store", "fail", "may be read by others"},
		"a store that is none": {func(t *testing.T, c *config.Config, _ *doctor) {
			must(t, os.WriteFile(filepath.Join(c.Store.Reveal(), "roster.db"), []byte(strings.Repeat("no database ", 1000)), 0o600))
		}, "store", "fail", ""},
		"no store yet on MongoDB": {func(t *testing.T, c *config.Config, _ *doctor) {
			s := mongotest.Start(t)
			c.Store = config.StoreURL(s.URI(s.NewDatabase(t)))
		}, "store", "warn", "there is no store"},
		"an older store": {func(t *testing.T, c *config.Config, _ *doctor) {
			conn, err := zombiezen.OpenConn(filepath.Join(c.Store.Reveal(), "roster.db"), zombiezen.OpenReadWrite)
			must(t, err)
			must(t, sqlitex.ExecuteTransient(conn, "PRAGMA user_version = 7", nil))
			must(t, conn.Close())
		}, "store", "warn", "another version"},
		"a MongoDB that is not there": {func(_ *testing.T, c *config.Config, _ *doctor) {
			c.Store = "mongodb://127.0.0.1:1/roster?serverSelectionTimeoutMS=200"
		}, "store", "fail", ""},
		"write concern": {func(t *testing.T, c *config.Config, _ *doctor) { database(t, c) },
			"write concern", "ok", "majority"},
		"a store's clock": {func(t *testing.T, c *config.Config, _ *doctor) { database(t, c) },
			"store's clock", "ok", "agrees"},
		"a store's clock that is off": {func(t *testing.T, c *config.Config, d *doctor) {
			database(t, c)
			d.now = func() time.Time { return time.Now().Add(time.Hour) }
		}, "store's clock", "fail", "differs by"},
		"a standalone MongoDB": {func(t *testing.T, c *config.Config, _ *doctor) {
			s := mongotest.StartDouble(t, mongotest.Config{Standalone: true})
			c.Store, c.AllowStandalone = config.StoreURL(s.URI("roster")), true
			roster(t, "migrate", "--store", c.Store.Reveal(), "--allow-standalone")
		}, "write concern", "fail", "standalone"},
		"MongoDB without a key file": {func(t *testing.T, c *config.Config, _ *doctor) { database(t, c) },
			"key file", "warn", "nobody can sign in"},
		"the key file":     {nil, "key file", "ok", "opens the secrets"},
		"no key file":      {func(t *testing.T, c *config.Config, _ *doctor) { must(t, os.Remove(keyOf(c))) }, "key file", "fail", "does not exist"},
		"an open key file": {func(t *testing.T, c *config.Config, _ *doctor) { must(t, os.Chmod(keyOf(c), 0o644)) }, "key file", "fail", "mode"},
		"a key file for a group": {func(t *testing.T, c *config.Config, _ *doctor) { must(t, os.Chmod(keyOf(c), 0o640)) },
			"key file", "warn", "group"},
		"another key file": {func(t *testing.T, c *config.Config, _ *doctor) {
			must(t, os.Remove(keyOf(c)))
			must(t, auth.CreateKeyFile(keyOf(c)))
		}, "key file", "fail", "another store"},
		"tenants": {nil, "tenants", "ok", "1, all usable"},
		"disk": {func(_ *testing.T, _ *config.Config, d *doctor) {
			d.space = func(string) (uint64, bool) { return 9 << 30, true }
		}, "disk", "ok", "9216 MiB"},
		"some disk": {func(_ *testing.T, _ *config.Config, d *doctor) {
			d.space = func(string) (uint64, bool) { return 1 << 30, true }
		}, "disk", "warn", "1024 MiB"},
		"no disk": {func(_ *testing.T, _ *config.Config, d *doctor) {
			d.space = func(string) (uint64, bool) { return 1 << 20, true }
		}, "disk", "fail", "1 MiB"},
		"a backup":   {nil, "backup", "ok", "b.jsonl"},
		"no backups": {func(t *testing.T, _ *config.Config, d *doctor) { d.backups = t.TempDir() }, "backup", "fail", "there is none"},
		"compressed backups": {func(t *testing.T, _ *config.Config, d *doctor) {
			d.backups = t.TempDir()
			for name, age := range map[string]time.Duration{"a.zst": 0, "b.zst": day} {
				path := filepath.Join(d.backups, name)
				must(t, os.WriteFile(path, []byte("zst"), 0o600))
				must(t, os.Chtimes(path, now.Add(-age), now.Add(-age)))
			}
		}, "backup", "warn", "the newest file, a.zst, was written on " + formatTime(now)},
		"no folder of backups": {func(t *testing.T, _ *config.Config, d *doctor) { d.backups = filepath.Join(t.TempDir(), "x") },
			"backup", "fail", "no such file"},
		"backups nobody knows of": {func(_ *testing.T, _ *config.Config, d *doctor) { d.backups = "" }, "backup", "warn", "not known"},
		"an old backup": {func(_ *testing.T, _ *config.Config, d *doctor) {
			d.now = func() time.Time { return now.Add(50 * time.Hour) }
		},
			"backup", "warn", "50 hours old"},
		"the key file among backups": {func(_ *testing.T, c *config.Config, d *doctor) { d.backups = c.Store.Reveal() },
			"backup", "warn", "the key file is in the folder"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, backups := patientStore(t)
			d := &doctor{now: time.Now, client: http.DefaultClient, backups: backups, space: func(string) (uint64, bool) { return 0, false }}
			if test.change != nil {
				test.change(t, &c, d)
			}
			d.examine(context.Background(), c, nil)
			var out bytes.Buffer
			err := d.print(&out)
			first := -1
			fails := false
			for i, f := range d.findings {
				if f.Check == test.check && first < 0 {
					first = i
				}
				fails = fails || f.Status == "fail"
				if (f.Status == "ok") != (f.Do == "") {
					t.Errorf("%+v: what is not ok, and nothing else, says what to do", f)
				}
			}
			if first < 0 || d.findings[first].Status != test.status || !strings.Contains(d.findings[first].Says, test.says) {
				t.Errorf("want %s %s, %q, got:\n%s", test.status, test.check, test.says, &out)
			}
			if fails != (err != nil) {
				t.Errorf("the error is %v, and something failed: %t", err, fails)
			}
		})
	}
	t.Cleanup(func() {
		if given() {
			t.Error("a message was handed to the mail server")
		}
	})
}

// TestDoctorDamaged: whose file is damaged is told of the backup, not of its mode.
func TestDoctorDamaged(t *testing.T) {
	c, _ := patientStore(t)
	f, err := os.OpenFile(filepath.Join(c.Store.Reveal(), "roster.db"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, 64), 20) // in the header
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	d := &doctor{now: time.Now, client: http.DefaultClient, space: diskSpace}
	d.examine(context.Background(), c, nil)
	for _, f := range d.findings {
		if f.Check == "store" && f.Status == "fail" {
			if !strings.Contains(f.Do, "restore the last backup") {
				t.Errorf("of a damaged file it says: %s", f.Do)
			}
			return
		}
	}
	t.Errorf("a damaged file is no failure: %+v", d.findings)
}

// TestDoctorJSON: programs read the same.
func TestDoctorJSON(t *testing.T) {
	c, backups := patientStore(t)
	d := &doctor{now: time.Now, client: http.DefaultClient, backups: backups, space: diskSpace, json: true}
	d.examine(t.Context(), c, nil)
	var out bytes.Buffer
	if err := d.print(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Status string
		Checks []finding
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Status != "warn" || len(got.Checks) != len(d.findings) {
		t.Errorf("%s, %v", &out, err)
	}
	broken := &doctor{now: time.Now}
	broken.examine(t.Context(), c, errors.New("listen: is empty\nops-listen: is empty"))
	if err := broken.print(&out); err == nil || len(broken.findings) != 1 || !strings.Contains(broken.findings[0].Says, "; ops-listen") {
		t.Errorf("settings that are not valid: %+v, %v", broken.findings, err)
	}
}
