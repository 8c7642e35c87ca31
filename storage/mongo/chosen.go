package mongo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/schemas"
)

// chosenPrefix begins the names of the indexes of attributes that an operator chose
// (storage.ChooseIndexed); the attribute's path follows. The server decides about
// using them.
const chosenPrefix = "chosen "

// chosenKeys are those of the index of an attribute. Two types that have an attribute
// of one path share it. What has one value comes in the order of lists.
func chosenKeys(a *schemas.Attribute) bson.D {
	return d(fTenant, 1, fType, 1, path(a, scope{}), 1, fResource, 1)
}

// choose makes the indexes of the attributes in the options and drops others, unless
// the options leave that to somebody else. Several processes may do it at once.
func (s *Store) choose(ctx context.Context) error {
	if s.opt.Indexed == nil {
		return nil
	}
	view := s.db.Collection(resources).Indexes()
	have, err := view.ListSpecifications(ctx)
	if err != nil {
		return fmt.Errorf("list the indexes of %s: %w", resources, err)
	}
	for _, x := range have {
		attr, chosen := strings.CutPrefix(x.Name, chosenPrefix)
		if !chosen || slices.ContainsFunc(s.opt.Indexed, func(a *schemas.Attribute) bool { return a.Path == attr }) {
			continue
		}
		s.opt.Log.Info("an index is dropped", "attribute", attr)
		if err := view.DropOne(ctx, x.Name); err != nil && !hasCode(err, codeIndexNotFound) {
			return fmt.Errorf("drop the index of %s: %w", attr, err)
		}
	}
	for _, a := range s.opt.Indexed {
		_, err := view.CreateOne(ctx, mongo.IndexModel{Keys: chosenKeys(a), Options: options.Index().SetName(chosenPrefix + a.Path)})
		if err != nil {
			return fmt.Errorf("build the index of %s: %w", a.Path, err)
		}
	}
	return nil
}
