package storage

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/roster-id/roster/schemas"
)

// maxChosen bounds how many attributes are indexed by choice: each costs every write
// of a resource that has it, and MongoDB allows 64 indexes to a collection.
const maxChosen = 16

// ChooseIndexed finds the attributes that an operator wants to be indexed beyond
// those that are anyway, each given as a resource type, a colon and a path:
// "User:title". It names everything that is wrong with the list in one error. The
// result is in no particular order, without repetitions, and never nil.
func ChooseIndexed(set *schemas.Set, list []string) ([]*schemas.Attribute, error) {
	chosen := make([]*schemas.Attribute, 0, len(list))
	var errs []error
	for _, given := range list {
		given = strings.TrimSpace(given)
		a, err := chooseIndexed(set, given)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%q %w", given, err))
		case !slices.ContainsFunc(chosen, func(b *schemas.Attribute) bool { return b.Path == a.Path }):
			chosen = append(chosen, a)
		}
	}
	if len(chosen) > maxChosen {
		errs = append(errs, fmt.Errorf("%d attributes are more than %d, which is as many as can be indexed beyond the usual ones", len(chosen), maxChosen))
	}
	return chosen, errors.Join(errs...)
}

func chooseIndexed(set *schemas.Set, given string) (*schemas.Attribute, error) {
	name, path, ok := strings.Cut(given, ":")
	if !ok {
		return nil, errors.New("does not say of which resource type; write it like User:title")
	}
	t := set.Type(name)
	switch {
	case t == nil:
		return nil, errors.New("names no resource type; those are User, Group and others at /ResourceTypes")
	case t.Name == "GroupMembership":
		return nil, errors.New("is of a type that is never stored, being another view of groups")
	}
	a := t.Lookup(path)
	switch {
	case a == nil || !a.Readable():
		return nil, errors.New("names no attribute of " + t.Name + " that can be filtered by")
	case made(a.Top()), a.Top().Detached, Unique(a), Indexed(a):
		return nil, errors.New("is looked up without being listed here, as far as it can be")
	case OuterElement(a, nil) != nil:
		return nil, errors.New("can have several values, which cannot be indexed by choice")
	case a.Type == schemas.Complex:
		return nil, errors.New("has parts; name one of them, such as " + t.Name + ":" + a.Path + "." + a.SubAttributes[0].Name)
	case a.Type == schemas.Boolean:
		return nil, errors.New("is true or false, and an index would still find half of all resources")
	}
	return a, nil
}
