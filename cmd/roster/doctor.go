package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/config"
	"github.com/roster-id/roster/internal/dump"
	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/sqlite"
)

func newDoctorCommand() *cobra.Command {
	d := &doctor{now: time.Now, client: &http.Client{Timeout: 10 * time.Second}, space: diskSpace}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check settings and environment, and say how to fix problems",
		Long: "Check everything that `roster serve` with the same settings depends on, before or while it runs: settings,\n" +
			"store, key file, clocks, certificates, mail server, disk space, age of the last backup. Nothing is changed\n" +
			"and no mail is sent. Settings come from flags, the environment (ROSTER_…) and a YAML file, as for roster\n" +
			"serve.\n\n" +
			"Each line is ok, warn or fail. The exit code is 1 if any is fail, and 0 otherwise.",
		Example: "  roster doctor --config /etc/roster/roster.yaml --backups /mnt/backup --time-url https://www.example.com/",
		Args:    cobra.NoArgs,
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().StringVar(&d.backups, "backups", "", "`folder` with backups, the newest of which should be less than a day old")
	cmd.Flags().StringVar(&d.timeURL, "time-url", "", "`URL` of a web server whose Date header the clock is compared with")
	cmd.Flags().BoolVar(&d.json, "json", false, "print a JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Load(cmd.Flags(), os.Getenv)
		d.environ = os.Environ()
		d.examine(cmd.Context(), c, err)
		return d.print(cmd.OutOrStdout())
	}
	return cmd
}

// The outcomes of a check.
const (
	healthy  = "ok"
	doubtful = "warn"
	failed   = "fail"
)

// finding is what a check came to.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"`
	Says   string `json:"says"`
	Do     string `json:"do,omitempty"` // what to do about it
}

// doctor is one call of `roster doctor`.
type doctor struct {
	backups, timeURL string
	json             bool
	environ          []string

	now    func() time.Time
	client *http.Client
	space  func(folder string) (free uint64, ok bool)

	findings []finding
}

func (d *doctor) say(check, status, do, format string, args ...any) {
	d.findings = append(d.findings, finding{check, status, fmt.Sprintf(format, args...), do})
}

func (d *doctor) print(out io.Writer) (err error) {
	worst, fails := healthy, 0
	for _, f := range d.findings {
		switch {
		case f.Status == failed:
			worst = failed
			fails++
		case f.Status == doubtful && worst == healthy:
			worst = doubtful
		}
	}
	if d.json {
		err = json.NewEncoder(out).Encode(struct {
			Status string    `json:"status"`
			Checks []finding `json:"checks"`
		}{worst, d.findings})
	} else {
		for _, f := range d.findings {
			_, printErr := fmt.Fprintf(out, "%-4s  %-14s  %s\n", f.Status, f.Check, f.Says)
			err = errors.Join(err, printErr)
			if f.Do != "" {
				_, printErr := fmt.Fprintf(out, "%24s%s\n", "→ ", f.Do)
				err = errors.Join(err, printErr)
			}
		}
	}
	if err == nil && fails > 0 {
		err = fmt.Errorf("failed checks: %d", fails)
	}
	return err
}

// examine runs all checks. Those of settings that are not valid are left out.
func (d *doctor) examine(ctx context.Context, c config.Config, err error) {
	if err != nil {
		d.say("configuration", failed, "correct the settings; docs/configuration.md lists them", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	d.say("configuration", healthy, "", "the settings are valid")
	if names := config.UnknownVariables(d.environ); len(names) > 0 {
		d.say("environment", doubtful, "check them for typing errors", "these variables are not settings: %s", strings.Join(names, ", "))
	}
	d.listeners(c)
	d.certificate(c)
	d.mail(ctx, c.Mail)
	d.checkpoints(c.AuditCheckpoints)
	d.httpClock(ctx)
	d.store(ctx, c)
}

func (d *doctor) listeners(c config.Config) {
	if config.Loopback(c.OpsListen) {
		d.say("ops-listen", healthy, "", "metrics and health checks can be reached from this machine only")
	} else {
		d.say("ops-listen", doubtful, "keep it in a private network, or on 127.0.0.1", "%s can be reached from other machines, and has no authentication", c.OpsListen)
	}
	if c.AllowPlaintext && c.TLSCert == "" && !config.Loopback(c.Listen) {
		d.say("listen", doubtful, "make sure that only the proxy that terminates TLS can reach it", "%s serves HTTP without TLS to other machines", c.Listen)
	}
}

// Certificates are renewed some weeks ahead by what renews them.
const renewAhead = 14 * 24 * time.Hour

func (d *doctor) certificate(c config.Config) {
	const check = "certificate"
	if c.TLSCert == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		d.say(check, failed, "put the certificate chain and its private key there, in PEM, readable by the server's user", "%v", err)
		return
	}
	if err := server.Private(c.TLSKey); err != nil {
		d.say(check, failed, "the server does not start with it as it is", "tls-key: %v", err)
		return
	}
	now, worst := d.now(), time.Time{}
	for _, raw := range pair.Certificate {
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			d.say(check, failed, "put a valid certificate chain there", "%s has a certificate that cannot be read", c.TLSCert)
			return
		}
		if now.Before(cert.NotBefore) {
			d.say(check, failed, "check the clock, or wait", "it is valid from %s on", formatTime(cert.NotBefore))
			return
		}
		if worst.IsZero() || cert.NotAfter.Before(worst) {
			worst = cert.NotAfter
		}
	}
	switch left := worst.Sub(now); {
	case left <= 0:
		d.say(check, failed, "renew it, and restart the server", "it expired on %s", formatTime(worst))
	case left < renewAhead:
		d.say(check, doubtful, "renew it, and restart the server", "it expires on %s", formatTime(worst))
	default:
		d.say(check, healthy, "", "it is valid until %s", formatTime(worst))
	}
}

func (d *doctor) mail(ctx context.Context, c config.Mail) {
	const check = "mail"
	sender, err := newMailSender(c, io.Discard)
	switch relay, smtp := sender.(*mail.SMTP); {
	case err != nil:
		d.say(check, failed, "correct the settings of mail", "%v", err)
	case sender == nil:
		d.say(check, doubtful, "set mail-from and mail-smtp to send invitations and notifications", "no mail is sent")
	case !smtp:
		if fi, err := os.Stat(c.Dir); c.Dir != "" && (err != nil || !fi.IsDir()) {
			d.say(check, failed, "create the folder", "mail-dir is not a folder")
			return
		}
		d.say(check, doubtful, "set mail-smtp in production", "mail is written to a folder or to standard output, and not sent")
	default:
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := relay.Greet(ctx); err != nil {
			d.say(check, failed, "check mail-smtp, mail-username and mail-password, and try roster mail test", "%s:%d: %v", relay.Host, relay.Port, err)
		} else {
			d.say(check, healthy, "", "%s:%d responds", relay.Host, relay.Port)
		}
	}
}

// checkpoints looks whether the file of checkpoints can be written, and makes none.
func (d *doctor) checkpoints(file string) {
	const check = "checkpoints"
	if file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_ = f.Close() // nothing was written
		d.say(check, healthy, "", "%s can be appended to", file)
		return
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = os.Stat(filepath.Dir(file)); err == nil {
			d.say(check, healthy, "", "the first checkpoint creates %s", file)
			return
		}
	}
	d.say(check, failed, "correct the setting audit-checkpoints, or let the server's user write there", "%v", err)
}

// clockTolerance is how far clocks may be apart: passcodes are good for 30 s either way.
const clockTolerance = 5 * time.Second

// compareClock compares this machine's clock, which showed before and after when it asked,
// with what another one answered, cut off to whole units of exact.
func (d *doctor) compareClock(check, whose string, theirs, before, after time.Time, exact time.Duration) {
	off := time.Duration(0)
	switch {
	case theirs.Add(exact).Before(before):
		off = before.Sub(theirs)
	case theirs.After(after):
		off = after.Sub(theirs)
	}
	if off.Abs() > clockTolerance {
		status := doubtful
		if off.Abs() >= 30*time.Second {
			status = failed
		}
		d.say(check, status, "synchronise the clocks with NTP: passcodes are refused if they differ by more than 30 s", "this clock differs by %s from that of %s", off.Round(time.Second), whose)
		return
	}
	d.say(check, healthy, "", "this clock agrees with that of %s", whose)
}

func (d *doctor) httpClock(ctx context.Context) {
	const check = "clock"
	if d.timeURL == "" {
		return
	}
	const do = "give a URL that answers, such as that of the proxy in front"
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, d.timeURL, nil)
	if err != nil {
		d.say(check, doubtful, do, "time-url is not a URL")
		return
	}
	before := d.now()
	res, err := d.client.Do(r)
	after := d.now()
	if err != nil {
		d.say(check, doubtful, do, "%s does not respond", r.URL.Host)
		return
	}
	_ = res.Body.Close() // there is none
	at, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		d.say(check, doubtful, do, "%s sends no Date header", r.URL.Host)
		return
	}
	d.compareClock(check, r.URL.Host, at, before, after, time.Second)
}

// store looks at the store, and at what only an open store tells.
func (d *doctor) store(ctx context.Context, c config.Config) {
	const check = "store"
	p, err := findPlace(c.Store.Reveal(), c.AllowStandalone)
	if err != nil {
		d.say(check, failed, "correct the setting store", "%v", err)
		return
	}
	defer d.lastBackup(p, c)
	if p.kind == embedded {
		file := sqlite.File(p.location)
		d.disk(filepath.Dir(file), file)
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			d.say(check, doubtful, "check the path; roster serve creates a new store there", "there is no store at %s yet", file)
			return
		}
	}
	var warnings strings.Builder
	log := slog.New(slog.NewTextHandler(&warnings, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := openAsIs(ctx, p, log)
	switch {
	case errors.Is(err, storage.ErrNoStore):
		d.say(check, doubtful, "check the URL; roster serve creates a new store there", "there is no store yet")
		return
	case errors.Is(err, storage.ErrOtherVersion):
		d.say(check, doubtful, "make a backup with the former version; docs/operations.md says how to upgrade", "%v", err)
		return
	}
	if err != nil {
		do := "see that the file is there, belongs to the server's user and has mode 600, and that its version fits"
		if p.kind == mongodb {
			do = "see that the servers can be reached, that they are a replica set with a majority, and that name and password are right"
		}
		if errors.Is(err, sqlite.ErrDamaged) {
			do = "stop the server, keep a copy of the files, and restore the last backup; docs/operations.md says how"
		}
		d.say(check, failed, do, "%v", err)
		return
	}
	defer func() { _ = store.Close() }() // nothing was written
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	before := d.now()
	is, err := store.(storage.Describer).Describe(ctx)
	after := d.now()
	if err == nil {
		err = store.Ping(ctx)
	}
	if err != nil {
		d.say(check, failed, "check that the database has a majority of its members, and disk space", "%v", err)
		return
	}
	d.say(check, healthy, "", "%s, schema version %d, responds", is.Product, is.Schema)
	if p.kind == mongodb {
		switch {
		case is.Standalone:
			d.say("write concern", failed, "use a replica set; one member is enough to begin with", "the server is standalone: writes are neither atomic nor replicated")
		case strings.Contains(warnings.String(), "write concern could not be read"):
			d.say("write concern", doubtful, "allow the store's user to run getDefaultRWConcern", "the cluster's defaults could not be checked; Roster itself asks for w: majority, j: true")
		default:
			d.say("write concern", healthy, "", "w: majority, j: true")
		}
	}
	if !is.Clock.IsZero() {
		d.compareClock("store's clock", "the database", is.Clock, before, after, time.Millisecond)
	}
	d.keys(ctx, p, c.KeyFile, store)
	d.tenants(ctx, store)
}

func (d *doctor) keys(ctx context.Context, p place, setting string, store storage.Store) {
	const check = "key file"
	sealed, err := auth.AnythingSealed(ctx, store)
	if err != nil {
		d.say(check, failed, "look at the store", "%v", err)
		return
	}
	path := keyFile(p, setting)
	if path == "" {
		status := doubtful
		if sealed {
			status = failed
		}
		d.say(check, status, "create one with roster keys create, and name it with key-file", "key-file is not set: nobody can sign in")
		return
	}
	ring, err := auth.LoadKeyRing(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && sealed:
		d.say(check, failed, "put the file back from its copy, or nobody with an authenticator app can sign in", "%s does not exist, and the store has secrets", path)
		return
	case errors.Is(err, fs.ErrNotExist) && setting == "":
		d.say(check, healthy, "", "there is none yet; roster serve creates %s", path)
		return
	case errors.Is(err, fs.ErrNotExist):
		d.say(check, failed, "create it with roster keys create --key-file "+path, "%s does not exist", path)
		return
	case err != nil:
		d.say(check, failed, "chmod 600 it, and make the server's user its owner", "%v", err)
		return
	}
	if err := ring.Check(ctx, store); err != nil {
		d.say(check, failed, "put the key file of this store there", "%v", err)
		return
	}
	if fi, err := os.Stat(path); err == nil && fi.Mode().Perm()&0o077 != 0 {
		d.say(check, doubtful, "chmod 600 it", "%s can be read by its group, too", path)
		return
	}
	opens := "it opens the secrets of the store"
	if !sealed {
		opens = "the store has no secrets yet"
	}
	d.say(check, healthy, "", "only its owner can access %s; %s", path, opens)
}

// tenants looks for loads that are not complete.
func (d *doctor) tenants(ctx context.Context, store storage.Store) {
	list, err := store.ListTenants(ctx)
	if err != nil {
		d.say("tenants", failed, "look at the store", "%v", err)
		return
	}
	ready := true
	for _, t := range list {
		if mark, err := store.LoadMark(ctx, t.ID); err != nil || mark != nil {
			ready = false
			d.say("tenants", failed, "complete the load or restore: run it again with the same file", "tenant %q was loaded only in part, and nobody can use it", t.ID)
		}
	}
	if ready {
		d.say("tenants", healthy, "", "%d, all usable", len(list))
	}
}

// Below these there is trouble soon, or now. A new version may need room for another copy.
const (
	leastFree = 512 << 20
	someFree  = 2 << 30
)

func (d *doctor) disk(folder, file string) {
	const check = "disk"
	free, ok := d.space(folder)
	if !ok {
		return
	}
	size := uint64(0)
	if fi, err := os.Stat(file); err == nil {
		size = uint64(max(0, fi.Size()))
	}
	mib := free >> 20
	switch {
	case free < leastFree:
		d.say(check, failed, "free disk space: without it nothing can be written", "%d MiB are free on the disk of the store", mib)
	case free < max(someFree, size):
		d.say(check, doubtful, "free disk space: long backups and upgrades need as much as the store has", "%d MiB are free on the disk of the store, which has %d MiB", mib, size>>20)
	default:
		d.say(check, healthy, "", "%d MiB are free on the disk of the store", mib)
	}
}

// backupAge is how old the last backup may be: a day, and the time that one takes.
const backupAge = 26 * time.Hour

// lastBackup looks at what is in the folder of backups.
func (d *doctor) lastBackup(p place, c config.Config) {
	const check = "backup"
	if d.backups == "" {
		d.say(check, doubtful, "name their folder with --backups; docs/operations.md says how to make backups", "it is not known where backups are kept")
		return
	}
	entries, err := os.ReadDir(d.backups)
	if err != nil {
		d.say(check, failed, "name the folder of the backups", "%v", err)
		return
	}
	var newest, otherNewest time.Time
	name, other := "", ""
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if at, ok := backupTime(filepath.Join(d.backups, e.Name())); ok {
			if at.After(newest) {
				newest, name = at, e.Name()
			}
		} else if fi, err := e.Info(); err == nil && fi.ModTime().After(otherNewest) {
			otherNewest, other = fi.ModTime(), e.Name()
		}
	}
	if keys := keyFile(p, c.KeyFile); keys != "" && sameFolder(keys, filepath.Join(d.backups, "x")) {
		if _, err := os.Stat(keys); err == nil {
			d.say(check, doubtful, "keep the key file elsewhere: whoever gets both can decrypt the secrets", "the key file is in the folder of the backups")
		}
	}
	age := d.now().Sub(newest)
	switch {
	case name == "" && other != "":
		d.say(check, doubtful, "check whether they are compressed backups, and how old they are", "no file is a readable backup; the newest file, %s, was written on %s", other, formatTime(otherNewest))
	case name == "":
		d.say(check, failed, "make one: roster backup --to FILE", "there is none in %s", d.backups)
	case age > backupAge:
		d.say(check, doubtful, "find out why there is no newer one", "the latest one, %s, is %d hours old", name, int(math.Round(age.Hours())))
	default:
		d.say(check, healthy, "", "the latest one, %s, is of %s", name, formatTime(newest))
	}
}

// backupTime returns when a backup was made. Others are none, nor are compressed ones: what they hold is not known.
func backupTime(path string) (time.Time, bool) {
	f, err := os.Open(path)
	if err != nil {
		return time.Time{}, false
	}
	defer f.Close()
	b, err := dump.NewBackupReader(f, nil)
	if err != nil {
		return time.Time{}, false
	}
	return b.Header.Created, true
}
