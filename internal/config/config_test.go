package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
)

// load runs Load on command-line arguments, an environment, and the text of a
// file, which is called roster.yaml unless it is empty.
func load(t *testing.T, args []string, env map[string]string, file string) (Config, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "roster.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags.Bool("verbose", false, "a flag of somebody else")
	AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(flags, func(name string) string { return env[name] })
}

// problems returns what an error of Load or join consists of.
func problems(t *testing.T, err error) (list []*SettingError) {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v is no joined error", err)
	}
	for _, e := range joined.Unwrap() {
		p, ok := errors.AsType[*SettingError](e)
		if !ok {
			t.Fatalf("%v is no SettingError", e)
		}
		list = append(list, p)
	}
	return list
}

func diff(got, want any) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}), cmp.Comparer(func(a, b StoreURL) bool { return a == b }))
}

func TestDefaults(t *testing.T) {
	want := Config{
		Store: "roster-data/roster.db", Listen: "127.0.0.1:8080", OpsListen: "127.0.0.1:9090",
		MaxConnections: 1000, MaxConnectionsPerIP: 500, MaxRequests: Auto, MaxQueuedRequests: Auto, MaxQueueWait: time.Second, ShutdownDelay: 5 * time.Second, TemporaryPasswordLifetime: 24 * time.Hour, InvitationLifetime: 7 * 24 * time.Hour, BulkResultLifetime: 24 * time.Hour,
		ProvisioningLogKeep: 7 * 24 * time.Hour, ProvisioningLogSize: 1000, LogFormat: "json",
		Mail: Mail{Auth: "auto", Language: "en"},
	}
	got, err := load(t, nil, nil, "")
	if d := diff(got, want); d != "" || err != nil {
		t.Errorf("Load: %v\n%s", err, d)
	}
	if d := diff(Default(), want); d != "" {
		t.Errorf("Default:\n%s", d)
	}
	for _, s := range settings {
		if err := s.set(new(Config), s.Default); err != nil {
			t.Errorf("default of %s: %v", s.Name, err)
		}
	}
}

// TestEverySetting gives each setting a value by each of the three ways.
func TestEverySetting(t *testing.T) {
	values := map[string]string{
		"store": "mongodb://h1:27017,h2:27017/roster", "allow-standalone": "true", "index-attributes": "User:title, User:name.familyName", "key-file": "r.keys", "listen": "[::1]:80", "ops-listen": "127.0.0.1:0",
		"public-url": "https://roster.example.com/", "tls-cert": "c.pem", "tls-key": "k.pem", "allow-plaintext": "true",
		"trusted-proxies": "10.1.2.3/8, 2001:db8::1", "max-connections": "7", "max-connections-per-ip": "0",
		"max-requests": "100", "max-queued-requests": "50", "max-queue-wait": "3s", "client-rate": "20", "client-burst": "40",
		"shutdown-delay": "1m30s", "temporary-password-lifetime": "0", "invitation-lifetime": "72h", "bulk-result-lifetime": "36h", "provisioning-log-keep": "48h", "provisioning-log-size": "500", "log-format": "text", "log-level": "warn", "demo": "true", "pprof": "true", "audit-checkpoints": "c.jsonl", "event-networks": "10.1.2.0/24",
		"mail-from": "r@example.com", "mail-smtp": "smtps://mail.example.com", "mail-username": "r", "mail-password": "p", "mail-auth": "login", "mail-language": "sv",
		"mail-password-file": "", "mail-dir": "", "mail-stdout": "false", // these cannot stand beside the others: TestMail
	}
	want := Config{
		Store: "mongodb://h1:27017,h2:27017/roster", AllowStandalone: true,
		IndexAttributes: []string{"User:title", "User:name.familyName"}, KeyFile: "r.keys", Listen: "[::1]:80", OpsListen: "127.0.0.1:0",
		PublicURL: "https://roster.example.com", TLSCert: "c.pem", TLSKey: "k.pem", AllowPlaintext: true,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")},
		MaxConnections: 7, MaxConnectionsPerIP: 0, MaxRequests: 100, MaxQueuedRequests: 50, MaxQueueWait: 3 * time.Second, ClientRate: 20, ClientBurst: 40, ShutdownDelay: 90 * time.Second, InvitationLifetime: 72 * time.Hour, BulkResultLifetime: 36 * time.Hour, ProvisioningLogKeep: 48 * time.Hour, ProvisioningLogSize: 500,
		LogFormat: "text", LogLevel: slog.LevelWarn, Demo: true, Pprof: true, AuditCheckpoints: "c.jsonl", EventNetworks: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")},
		Mail: Mail{From: "r@example.com", SMTP: "smtps://mail.example.com", Username: "r", Password: "p", Auth: "login", Language: "sv"},
	}
	var args []string
	env := map[string]string{}
	file := ""
	for _, s := range settings {
		v, ok := values[s.Name]
		if !ok {
			t.Errorf("no value for %s", s.Name)
		}
		args = append(args, "--"+s.Name+"="+v)
		env[s.Env] = v
		file += fmt.Sprintf("%s: %q\n", s.Name, v)
	}
	for _, test := range []struct {
		name string
		args []string
		env  map[string]string
		file string
	}{{"flags", args, nil, ""}, {"environment", nil, env, ""}, {"file", nil, nil, file}} {
		got, err := load(t, test.args, test.env, test.file)
		if d := diff(got, want); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", test.name, err, d)
		}
	}
}

func TestPrecedence(t *testing.T) {
	args := []string{"--max-connections=4"}
	env := map[string]string{"ROSTER_MAX_CONNECTIONS": "3"}
	file := "max-connections: 2\n"
	for _, test := range []struct {
		name string
		args []string
		env  map[string]string
		file string
		want int
	}{
		{"default", nil, nil, "", 1000},
		{"file", nil, nil, file, 2},
		{"environment", nil, env, "", 3},
		{"environment over file", nil, env, file, 3},
		{"empty variable is not set", nil, map[string]string{"ROSTER_MAX_CONNECTIONS": ""}, file, 2},
		{"flag", args, nil, "", 4},
		{"flag over file", args, nil, file, 4},
		{"flag over both", args, env, file, 4},
		{"flag with the default value over both", []string{"--max-connections=1000"}, env, file, 1000},
	} {
		got, err := load(t, test.args, test.env, test.file)
		if err != nil || got.MaxConnections != test.want {
			t.Errorf("%s: max-connections = %d, %v; want %d", test.name, got.MaxConnections, err, test.want)
		}
	}
}

func TestFlags(t *testing.T) {
	got, err := load(t, []string{"--demo", "--trusted-proxies=10.0.0.0/8", "--trusted-proxies=192.0.2.1", "--listen=x:1", "--listen=127.0.0.1:1"}, nil, "")
	want := Default()
	want.Demo, want.Listen = true, "127.0.0.1:1"
	want.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}
	if d := diff(got, want); d != "" || err != nil {
		t.Errorf("Load: %v\n%s", err, d)
	}
	// A flag beats the file even to switch something off.
	if got, err := load(t, []string{"--demo=false"}, nil, "demo: true"); err != nil || got.Demo {
		t.Errorf("--demo=false: Demo = %v, %v", got.Demo, err)
	}
}

func TestFile(t *testing.T) {
	for _, test := range []struct {
		name, file string
		want       []string // the problems
	}{
		{"comments only", "# nothing\n", nil},
		{"null", "~\n", nil},
		{"plain values", "listen: 127.0.0.1:1\nshutdown-delay: 3s\ndemo: true\nmax-connections: 12\n", nil},
		{"list", "trusted-proxies:\n  - 10.0.0.0/8\n  - 192.0.2.1\n", nil},
		{"list as text", "trusted-proxies: 10.0.0.0/8, 192.0.2.1\n", nil},
		{"empty list", "trusted-proxies: []\n", nil},
		{"alias", "max-connections: &n 12\nmax-connections-per-ip: *n\n", nil},
		{"unknown", "listen: 127.0.0.1:1\n\nlisten-on: x\nTLS_cert: y\n", []string{
			"listen-on (roster.yaml:3): there is no such setting", "TLS_cert (roster.yaml:4): there is no such setting"}},
		{"the file names itself", "config: other.yaml\n", []string{"config (roster.yaml:1): there is no such setting"}},
		{"nested", "tls:\n  cert: x\n", []string{"tls (roster.yaml:1): there is no such setting"}},
		{"nested under a setting", "listen:\n  port: 1\n", []string{"listen (roster.yaml:1): takes a value, not further settings"}},
		{"list for one value", "listen: [a, b]\n", []string{"listen (roster.yaml:1): takes one value, not a list"}},
		{"list of lists", "trusted-proxies: [[a]]\n", []string{"trusted-proxies (roster.yaml:1): is a list of something else than texts"}},
		{"no value", "store:\n", []string{"store (roster.yaml:1): has no value"}},
		{"twice", "demo: true\ndemo: false\n", []string{"demo (roster.yaml:2): is set twice"}},
		{"yes", "demo: yes\n", []string{`demo (roster.yaml:1): "yes" is neither true nor false`}},
		{"merge", "<<: {demo: true}\n", []string{"<< (roster.yaml:1): there is no such setting"}},
	} {
		_, err := load(t, nil, nil, test.file)
		var got []string
		for _, p := range problems(t, err) {
			got = append(got, p.Error())
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s:\n%s", test.name, d)
		}
	}
}

func TestFileThatIsNone(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"syntax":         {"listen: [\n", "is not YAML"},
		"text":           {"mongodb-password-in-the-wrong-place", "does not consist of lines"},
		"list":           {"- listen\n", "does not consist of lines"},
		"two documents":  {"demo: true\n---\ndemo: false\n", "more than one YAML document"},
		"broken second":  {"demo: true\n---\n[", "more than one YAML document"},
		"invalid UTF-8":  {"listen: \xff\n", "is not YAML"},
		"unknown anchor": {"listen: *x\n", "is not YAML"},
	} {
		_, err := load(t, nil, nil, test.file)
		list := problems(t, err)
		if len(list) != 1 || list[0].Setting != "config" || !strings.Contains(list[0].Msg, test.want) ||
			!strings.HasSuffix(list[0].Source, "roster.yaml") || strings.Contains(err.Error(), "password") {
			t.Errorf("%s: Load: %v; want config: …%s…", name, err, test.want)
		}
	}
	for name, from := range map[string]struct {
		args []string
		env  map[string]string
	}{
		"flag":             {[]string{"--config=none.yaml"}, nil},
		"environment":      {nil, map[string]string{"ROSTER_CONFIG": "none.yaml"}},
		"flag beats other": {[]string{"--config=none.yaml"}, map[string]string{"ROSTER_CONFIG": "other.yaml"}},
	} {
		_, err := load(t, from.args, from.env, "")
		if err == nil || err.Error() != "config (none.yaml): cannot be read: no such file or directory" {
			t.Errorf("%s: Load: %v", name, err)
		}
	}
}

// TestAllProblemsAtOnce: an operator sees everything that is wrong, wherever it
// stands, with its place.
func TestAllProblemsAtOnce(t *testing.T) {
	_, err := load(t,
		[]string{"--max-connections=many", "--tls-cert=c.pem", "--demo=maybe", "--log-level=loud"},
		map[string]string{"ROSTER_SHUTDOWN_DELAY": "5 parsecs", "ROSTER_STORE": " ", "ROSTER_LOG_FORMAT": "xml"},
		"colour: red\nlisten: here\nops-listen: 127.0.0.1:99999\ntrusted-proxies: [nonsense, 0.0.0.0/0, 10.0.0.0/8, \"::/99999\"]\n"+
			"max-connections-per-ip: -1\npublic-url: https://user:canary@example.com\n")
	want := `colour (roster.yaml:1): there is no such setting
demo (--demo): "maybe" is neither true nor false
listen (roster.yaml:2): "here" is not an address; write it like 127.0.0.1:8080, [::1]:8080 or :8080
log-format (ROSTER_LOG_FORMAT): "xml" is neither json nor text
log-level (--log-level): "loud" is none of debug, info, warn and error
max-connections (--max-connections): "many" is not a whole number
max-connections-per-ip (roster.yaml:5): is negative; 0 means no limit
ops-listen (roster.yaml:3): "127.0.0.1:99999" does not end in a port between 0 and 65535
public-url (roster.yaml:6): carries a user name or password, which every client would see
shutdown-delay (ROSTER_SHUTDOWN_DELAY): "5 parsecs" is not a duration; write it like 5s or 1m30s
store (ROSTER_STORE): is empty; give the path of a file or the URL of a database
tls-key: is missing; tls-cert needs it
trusted-proxies (roster.yaml:4): "nonsense" is not a network; write it like 192.0.2.0/24 or 2001:db8::/32; "::/99999" is not a network; write it like 192.0.2.0/24 or 2001:db8::/32`
	if err == nil {
		t.Fatal("Load found nothing wrong")
	}
	var got []string
	for _, p := range problems(t, err) {
		got = append(got, p.Error())
	}
	slicesSort := cmpopts.SortSlices(func(a, b string) bool { return a < b })
	if d := cmp.Diff(strings.Split(want, "\n"), got, slicesSort); d != "" {
		t.Error(d)
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("the error tells a password: %v", err)
	}
}

func TestProblems(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   string // the settings with problems
	}{
		{"default", func(*Config) {}, ""},
		{"TLS", func(c *Config) { c.TLSCert, c.TLSKey = "c", "k" }, ""},
		{"certificate only", func(c *Config) { c.TLSCert = "c" }, "tls-key"},
		{"key only", func(c *Config) { c.TLSKey = "k" }, "tls-cert"},
		{"certificate only, for everyone", func(c *Config) { c.TLSCert, c.Listen = "c", ":1" }, "tls-key"},
		{"no store", func(c *Config) { c.Store = "" }, "store"},
		{"any database", func(c *Config) { c.Store = "mongodb+srv://u:p@h/db" }, ""},
		{"same address", func(c *Config) { c.OpsListen = c.Listen }, "ops-listen"},
		{"same address, any port", func(c *Config) { c.Listen, c.OpsListen = "127.0.0.1:0", "127.0.0.1:0" }, ""},
		{"no address", func(c *Config) { c.Listen, c.OpsListen = "", "" }, "listen ops-listen ops-listen"},
		{"no port", func(c *Config) { c.Listen = "127.0.0.1" }, "listen"},
		{"named port", func(c *Config) { c.Listen = "127.0.0.1:http" }, "listen"},
		{"negative delay", func(c *Config) { c.ShutdownDelay = -1 }, "shutdown-delay"},
		{"a log of the future", func(c *Config) { c.ProvisioningLogKeep = -time.Hour }, "provisioning-log-keep"},
		{"a log of nothing", func(c *Config) { c.ProvisioningLogSize = 0 }, "provisioning-log-size"},
		{"a log without end", func(c *Config) { c.ProvisioningLogSize = 10_001 }, "provisioning-log-size"},
		{"no lifetime of results", func(c *Config) { c.BulkResultLifetime = 0 }, "bulk-result-lifetime"},
		{"no lifetime of invitations", func(c *Config) { c.InvitationLifetime = 0 }, "invitation-lifetime"},
		{"negative lifetime", func(c *Config) { c.TemporaryPasswordLifetime = -1 }, "temporary-password-lifetime"},
		{"negative limits", func(c *Config) { c.MaxConnections, c.MaxConnectionsPerIP, c.ClientRate, c.ClientBurst = -1, -1, -1, -1 },
			"max-connections max-connections-per-ip client-rate client-burst"},
		{"negative wait", func(c *Config) { c.MaxQueueWait = -1 }, "max-queue-wait"},
		{"log format", func(c *Config) { c.LogFormat = "" }, "log-format"},
		{"trusting everyone", func(c *Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		}, "trusted-proxies trusted-proxies"},
		{"events to everywhere", func(c *Config) { c.EventNetworks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }, "event-networks"},
		{"attributes", func(c *Config) { c.IndexAttributes = []string{"User:title", "User:name.familyName"} }, ""},
		{"attributes that there are not", func(c *Config) { c.IndexAttributes, c.LogFormat = []string{"User:nothing", "title"}, "" }, "index-attributes log-format"},
		{"several", func(c *Config) { c.Store, c.LogFormat = "", "" }, "store log-format"},
	} {
		c := Default()
		test.change(&c)
		err := join(c.problems())
		var got []string
		for _, p := range problems(t, err) {
			got = append(got, p.Setting)
			if !strings.Contains(err.Error(), p.Setting+": ") {
				t.Errorf("%s: %q does not name %s", test.name, err, p.Setting)
			}
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s: problems: %v; want problems with %q", test.name, err, test.want)
		}
	}
}

// TestPlaintext: without TLS only this machine is served, unless the operator
// says otherwise.
func TestPlaintext(t *testing.T) {
	for address, local := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true, "[::ffff:127.0.0.1]:1": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false, "example.com:1": false, "localhost.example.com:1": false,
	} {
		for name, test := range map[string]struct {
			change func(*Config)
			want   bool
		}{
			"plain":            {func(c *Config) {}, local},
			"TLS":              {func(c *Config) { c.TLSCert, c.TLSKey = "c", "k" }, true},
			"plain on purpose": {func(c *Config) { c.AllowPlaintext = true }, true},
		} {
			c := Default()
			c.Listen = address
			test.change(&c)
			err := join(c.problems())
			if (err == nil) != test.want {
				t.Errorf("%s on %s: problems: %v; want ok: %v", name, address, err, test.want)
			}
			if err != nil && (!strings.Contains(err.Error(), "allow-plaintext") || !strings.Contains(err.Error(), "proxy")) {
				t.Errorf("%q does not say what to do", err)
			}
		}
	}
	// The operations listener has nothing that a token protects.
	c := Default()
	c.OpsListen = "0.0.0.0:9090"
	if err := join(c.problems()); err != nil {
		t.Errorf("ops-listen 0.0.0.0:9090: %v", err)
	}
}

func TestPublicURL(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "",
		"https://roster.example.com":  "https://roster.example.com",
		"https://roster.example.com/": "https://roster.example.com",
		"http://127.0.0.1:8080":       "http://127.0.0.1:8080",
		"https://[2001:db8::1]:8443/": "https://[2001:db8::1]:8443",
		"roster.example.com":          "error",
		"//roster.example.com":        "error",
		"ftp://roster.example.com":    "error",
		"https://":                    "error",
		"https://:8080":               "error",
		"https:roster.example.com":    "error",
		"https://h/scim":              "error",
		"https://h//":                 "error",
		"https://h?x=1":               "error",
		"https://h?":                  "error",
		"https://h#x":                 "error",
		"https://h#":                  "error",
		"https://user:canary@h":       "error",
		"https://canary\x7f@h":        "error",
	} {
		c, err := load(t, []string{"--public-url=" + in}, nil, "")
		switch {
		case want == "error":
			if err == nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("--public-url=%s: %v; want an error without the text", in, err)
			}
		case err != nil || c.PublicURL != want:
			t.Errorf("--public-url=%s = %q, %v; want %q", in, c.PublicURL, err, want)
		}
	}
}

func TestStoreURL(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "",
		"roster-data/roster.db":                 "roster-data/roster.db",
		"/var/lib/a@b/roster.db":                "/var/lib/a@b/roster.db",
		"mongodb://h1:27017,h2:27017/roster":    "mongodb://h1:27017,h2:27017/roster",
		"mongodb://u:canary@h1:27017,h2/roster": "mongodb://[redacted]@h1:27017,h2/roster",
		"mongodb+srv://u:canary@h/roster?authMechanismProperties=AWS_SESSION_TOKEN:canary": "mongodb+srv://[redacted]@h/roster?[redacted]",
		"mongodb://u:ca/na?ry#canary@h/db":                                                 "mongodb://[redacted]@h/db",
		"mongodb://u:p@canary@h/db":                                                        "mongodb://[redacted]@h/db",
		"mongodb://h/db?x=canary@h":                                                        "mongodb://[redacted]@h",
		"mongodb://h/db#canary":                                                            "mongodb://h/db#[redacted]",
		"mongodb://u:canary%zz@h":                                                          "mongodb://[redacted]@h",
	} {
		s := StoreURL(in)
		if got := s.String(); got != want {
			t.Errorf("StoreURL(%q).String() = %q; want %q", in, got, want)
		}
		if s.Reveal() != in {
			t.Errorf("StoreURL(%q).Reveal() = %q", in, s.Reveal())
		}

		c := Default()
		c.Store = s
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
			fmt.Fprintf(&out, verb+verb+verb, s, c, &c)
		}
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("m", "store", s, "config", c)
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		out.WriteString(s.GoString())
		for _, form := range []string{"canary", fmt.Sprintf("%x", "canary")} {
			if strings.Contains(out.String(), form) {
				t.Errorf("%s shows in %s", form, out.String())
			}
		}
	}
}

// TestHelp: the password in an environment variable or file never becomes the
// default that --help prints, and every setting is explained.
func TestHelp(t *testing.T) {
	t.Setenv("ROSTER_STORE", "mongodb://u:canary@h")
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	AddFlags(flags)
	usage, table := flags.FlagUsages(), Document()
	if strings.Contains(usage+table, "canary") {
		t.Errorf("the help tells a password:\n%s", usage)
	}
	for _, s := range Settings() {
		for _, want := range []string{s.Flag(), s.Env} {
			if !strings.Contains(usage, want) {
				t.Errorf("the usage does not mention %s", want)
			}
			if !strings.Contains(table, "`"+want+"`") {
				t.Errorf("the table does not mention %s", want)
			}
		}
		if s.Help == "" || s.Kind == "" {
			t.Errorf("%s has no help or no kind", s.Name)
		}
	}
	if n := strings.Count(table, "\n"); n != len(Settings())+2 {
		t.Errorf("the table has %d lines; want %d", n, len(Settings())+2)
	}
}
