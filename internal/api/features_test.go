package api_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// features are what people can do here, in the order of docs/features.md, which is made of
// this list and of the tests that ran: each test says with shows which rows it shows.
var features = []struct {
	id, what string
	lacks    string // what nobody can do yet
}{
	{"A7", "Define roles and entitlements, which clients list and choose from, Okta in its own schemas; a tenant can restrict the values of users to them.", ""},
	{"A8", "Define custom schemas and resource types at run time; they take effect at once in discovery, validation, filters, PATCH and Bulk.", "web page"},
	{"A9", "Notify other systems of changes by signed webhooks, or security event tokens that are pushed or polled; with retries until acknowledged, then dead letters.", "web page"},
	{"A10", "Import a CSV or JSON Lines file from an HR system: preview, managers in any order, each rejected row with its reason, a stop before many users are disabled. Export such a file.", "web page"},
	{"A11", "See the structure of what a client sent, without values, and why it was refused, by the request id that the client saw.", "web page"},
	{"B1", "Create an administrator in one call: user name, names, groups, roles, sign-in blocked or not, usage location, job information.", "web page"},
	{"B2", "Generate a password that is shown once and has to be changed at the first sign-in; entitled administrators can generate a new one.", "web page"},
	{"B3", "Invite a person by mail, or with a link to hand over, with groups and roles; resend, revoke, expire; accept and sign in.", "web page for inviting"},
	{"B4", "Assign, change and remove roles of users, groups and clients, permanently or between two dates.", "web page"},
	{"B5", "See who holds which roles and how; reports on privileged accounts; access reviews that confirm or revoke, with reminders when due.", "web page; recurring reviews"},
	{"B6", "Delete users: a Global Administrator anybody but the last of its kind, a User Administrator those without administrative roles.", "web page"},
	{"B7", "List deleted users with the days left; restore them with groups and roles, also under another name; or remove them for good.", "web page"},
	{"B8", "Administrators need an authenticator app, enrolled by QR code, with recovery codes; entitled administrators can reset it.", "web page except for the first administrator and invitees"},
	{"B9", "Emergency accounts: marked, exempt from conditional rules, reported when used; a warning about more than two Global Administrators.", "web page"},
	{"B10", "Activate an eligible role for some hours, with a reason, a passcode and optionally approval; request a role, and find out whom to ask.", "web page"},
	{"C1", "Create a customer who signs in by e-mail or by user name.", "web page"},
	{"C2", "The customer, unless blocked, signs in by the chosen method.", "web page for sign-in"},
	{"C3", "Reset a password to a temporary one that works at the next sign-in, however late if the policy says so, and then has to be changed.", "web page"},
	{"C4", "Search, delete, restore and permanently remove customers.", "web page; several at once, other than by Bulk"},
	{"C5", "A new user holds no role.", ""},
	{"C6", "Creating a user returns what the user signs in with, once.", "web page"},
	{"D1", "Tenants, and moving between those that one may administer.", "web page"},
	{"D2", "Domains: add, verify by DNS, make primary; move user names to another domain, with a preview, in steps that continue after an interruption.", "web page"},
	{"D3", "Built-in roles with their permissions, custom roles, categories.", "web page"},
	{"D4", "Conditional rules that require a passcode or block, and can be tried first; who has enrolled an authenticator app and when it was last used; a check that it works.", "web page"},
	{"D5", "Search, export and verify an audit trail that says who did what to whom and when.", "web page; verifying other than on the host"},
	{"D6", "A warning if one account is used from many places.", "web page"},
	{"E4", "Back up while servers run; restore on a new machine, without anything that was used or revoked since giving access; check the consistency of a store.", ""},
}

// evidence is which tests ran for which row, and on which stores.
var evidence = struct {
	sync.Mutex
	rows   map[string][]string        // tests by row
	stores map[string]map[string]bool // by test
}{rows: map[string][]string{}, stores: map[string]map[string]bool{}}

// shows says that a test is evidence for rows of docs/features.md.
func shows(t *testing.T, rows ...string) {
	t.Helper()
	evidence.Lock()
	defer evidence.Unlock()
	for _, row := range rows {
		evidence.rows[row] = append(evidence.rows[row], t.Name())
	}
}

// ranOn notes the store of a world.
func ranOn(t *testing.T, kind string) {
	evidence.Lock()
	defer evidence.Unlock()
	test, _, _ := strings.Cut(t.Name(), "/")
	if evidence.stores[test] == nil {
		evidence.stores[test] = map[string]bool{}
	}
	evidence.stores[test][kind] = true
}

const featuresFile = "../../docs/features.md"

var update = flag.Bool("update", false, "write docs/features.md")

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" && flag.Lookup("test.list").Value.String() == ""; whole && code == 0 {
		if err := checkFeatures(); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// checkFeatures holds docs/features.md to what ran.
func checkFeatures() error {
	var b bytes.Buffer
	b.WriteString(`# What people can do

Each row is something that people can do with this server, by the REST API or the command line, and the tests in ` + "`internal/api`" + ` that do it through HTTP, on
both stores. "Lacks" says what is not possible yet; most rows have no web page. ` + "`go test ./internal/api -update`" + ` generates this page from the tests that ran, and every run of the suite checks it. The
scripts in ` + "`scim/testdata`" + ` show what provisioning clients can do, and [security.md](security.md) what attackers cannot do.

| | what | shown by | stores | lacks |
|---|---|---|---|---|
`)
	for _, f := range features {
		tests := slices.Sorted(slices.Values(evidence.rows[f.id]))
		stores := map[string]int{}
		for i, name := range tests {
			for s := range evidence.stores[name] {
				stores[s]++
			}
			tests[i] = "`" + name + "`"
		}
		on := []string{}
		for _, s := range []string{"SQLite", "MongoDB"} {
			if stores[s] == len(tests) && len(tests) > 0 {
				on = append(on, s)
			}
		}
		if len(on) < 2 {
			return fmt.Errorf("row %s of docs/features.md is shown by %v, on both stores by not all of them: %v", f.id, tests, stores)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", f.id, f.what, strings.Join(tests, ", "), strings.Join(on, ", "), f.lacks)
	}
	if *update {
		return os.WriteFile(featuresFile, b.Bytes(), 0o644)
	}
	there, err := os.ReadFile(featuresFile)
	if err == nil && !bytes.Equal(there, b.Bytes()) {
		err = fmt.Errorf("docs/features.md is not what ran: go test ./internal/api -update")
	}
	return err
}
