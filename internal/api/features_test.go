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
	{"A7", "Roles and entitlements to choose from, which Okta sees in its own form; what users are said to have is held against them when the tenant says so.", ""},
	{"A8", "Schemas and resource types of a tenant's own, defined while running: in discovery, validation, filters, PATCH and Bulk at once.", "a page"},
	{"A9", "Have others told of what changes: webhooks with signatures, security event tokens that are pushed or polled; again and again until acknowledged, then as dead letters.", "a page"},
	{"A10", "Bring in a CSV or JSON Lines file of an HR system: a preview, managers in any order, each rejected row with its reason, a stop before many are disabled. Export such a file.", "a page"},
	{"A11", "See what a client sent, without what it says, and why it was refused, by the id that the client saw.", "a page"},
	{"B1", "Create an administrator in one call: user name, names, groups, roles, sign-in blocked or not, usage location, job information.", "a page"},
	{"B2", "A generated password is shown once and has to be changed at the first sign-in; a new one is given by who is entitled to.", "a page"},
	{"B3", "Invite somebody from outside, by mail or with a link to hand over, with groups and roles; send again, revoke, let expire; accept, and sign in.", "a page to invite on"},
	{"B4", "Give, change and take roles, of users, groups and clients, for good or between two dates.", "a page"},
	{"B5", "See who holds what and how; reports on privileged accounts; review who holds roles, confirm or revoke, with reminders when a review is due.", "a page; reviews that recur"},
	{"B6", "Delete: a Global Administrator anyone but the last of its kind, a User Administrator those without administrative roles.", "a page"},
	{"B7", "Deleted users are listed with the days left, restored with groups and roles, perhaps under another name, or removed for good.", "a page"},
	{"B8", "Administrators need a passcode app, which they enrol by QR code, with recovery codes; it is reset by who is entitled to.", "a page but for the first administrator and the invited"},
	{"B9", "Accounts for emergencies: marked, exempt from conditional rules, reported when used; more than two Global Administrators are warned of.", "a page"},
	{"B10", "Make an eligible role active for some hours, with reason, passcode and perhaps approval; ask for a role, and find out whom to ask.", "a page"},
	{"C1", "Create a customer who signs in by e-mail or by user name.", "a page"},
	{"C2", "Unless blocked, the customer signs in by the method that was chosen.", "a page to sign in on"},
	{"C3", "Reset a password: a temporary one that works at the next sign-in, however late if the policy says so, and then has to be changed.", "a page"},
	{"C4", "Search, delete, restore and remove customers for good.", "a page; several at once, other than by Bulk"},
	{"C5", "Who is new holds no role.", ""},
	{"C6", "Creating somebody answers with what they sign in with, once.", "a page"},
	{"D1", "Tenants, and moving between those that one may administer.", "a page"},
	{"D2", "Domains: add, prove by DNS, make primary; move user names over with a preview, in steps that go on after an interruption.", "a page"},
	{"D3", "Built-in roles with what each permits, roles of one's own, categories.", "a page"},
	{"D4", "Conditional rules that ask for a passcode or block, and are tried out first; who has enrolled a passcode app and when it was last used; a check that it works.", "a page"},
	{"D5", "An audit trail that says who did what to whom and when, to be searched, exported, and verified.", "a page; verifying other than on the host"},
	{"D6", "A warning where one account is used from many places.", "a page"},
	{"E4", "A backup while servers run, a store made of it on a new machine in which nothing that was used or revoked since lets anybody in, a check of a store.", ""},
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

Each row is something that people can do with this server, and names the tests in ` + "`internal/api`" + ` that do it, through HTTP, on a
server with each of the stores. This page is made by ` + "`go test ./internal/api -update`" + ` of what ran, and checked by every run of the suite. What
provisioning clients can do is shown by the scripts in ` + "`scim/testdata`" + `; what attackers cannot, by [security.md](security.md).

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
