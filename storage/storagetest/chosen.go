package storagetest

import (
	"slices"
	"testing"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Chosen returns attributes to index by choice, of every type of value that allows it.
func Chosen(t *testing.T) []*schemas.Attribute {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	list, err := storage.ChooseIndexed(schemas.NewSet(set.Type("User"), set.Type("Group"), deviceType(t)), []string{
		"User:title", "User:userType", "User:name.familyName", "User:urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
		"Device:slots", "Device:weight", "Device:bought", "Device:key", "Device:home", "Device:maker.name", "Device:maker.since",
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// RunFilters is the part of Run that is about what filters find, in one world of the
// differential test, for stores with indexes that are not always there.
func RunFilters(t *testing.T, open func(t *testing.T) storage.Store) {
	promises := differentialPromises[:1]
	promises = append(slices.Clip(promises), []promise{
		{"a walk meets every resource once, in order, whatever the size of its pages", walkOn},
		{"an equality finds long values and tells them apart", longValues},
		{"values are text and nothing else", hostileValues},
		{"types are apart", typesApart},
	}...)
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.test(t, newDirectory(t, open))
		})
	}
}
