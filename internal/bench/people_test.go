package bench

import (
	"encoding/json"
	"testing"
)

func TestPeople(t *testing.T) {
	const n = 20_000
	p := people{1}
	seen := map[string]bool{}
	ascending, bytes := 0, 0
	for i := range n {
		name := p.userName(i)
		if seen[name] {
			t.Fatalf("user %d is called %s, as another is", i, name)
		}
		seen[name] = true
		if i > 0 && name > p.userName(i-1) {
			ascending++
		}
		bytes += len(p.appendUser(nil, i))
	}
	// Names in random order are in ascending order half of the time.
	if ascending < n*45/100 || ascending > n*55/100 {
		t.Errorf("%d of %d names come after the one before, expected half", ascending, n)
	}
	if mean := bytes / n; mean < 800 || mean > 1200 {
		t.Errorf("a user has %d bytes, expected about 1,000", mean)
	}
	if a, b := string(p.appendUser(nil, 5)), string(people{1}.appendUser(nil, 5)); a != b {
		t.Errorf("the same seed makes different users:\n%s\n%s", a, b)
	}
	if people.userName(people{2}, 5) == p.userName(5) {
		t.Error("another seed makes the same user")
	}
}

func TestUserIsWhole(t *testing.T) {
	p := people{1}
	for i := range 100 {
		var u struct {
			UserName, ExternalID, DisplayName, Title string
			Name                                     struct{ GivenName, FamilyName string }
			Emails, PhoneNumbers                     []struct{ Value, Type string }
			Enterprise                               struct{ EmployeeNumber, Department string } `json:"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"`
		}
		b := p.appendUser(nil, i)
		if err := json.Unmarshal(b, &u); err != nil {
			t.Fatalf("user %d: %v\n%s", i, err, b)
		}
		if u.UserName != p.userName(i) || u.DisplayName != u.Name.GivenName+" "+u.Name.FamilyName || len(u.ExternalID) != 36 ||
			len(u.Emails) != 2 || u.Emails[0].Value != u.UserName || len(u.PhoneNumbers) != 2 || u.Title == "" ||
			u.Enterprise.EmployeeNumber == "" || u.Enterprise.Department == "" {
			t.Errorf("user %d lacks something: %s", i, b)
		}
	}
}

func TestRowID(t *testing.T) {
	last := ""
	for _, i := range []int{0, 1, 2, 0xffff, 0x10000, 0x10001, 999_999, 1_000_000} {
		id := rowID(i)
		if len(id) != 36 || id <= last {
			t.Errorf("rowID(%d) = %s after %s, expected a later UUID", i, id, last)
		}
		last = id
	}
	if now := "019a0000-0000-7000-8000-000000000000"; last >= now {
		t.Errorf("rowID(1000000) = %s, expected it before those made now", last)
	}
}
