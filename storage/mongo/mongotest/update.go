package mongotest

import (
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	"github.com/256dpi/lungo/mongokit"
	v1 "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// The update operators are lungo's. It works on the documents of the driver's
// first version; they stay in this file, and BSON is what goes in and out.

var updateOperators = map[string]bool{
	"$set": true, "$setOnInsert": true, "$unset": true, "$rename": true, "$currentDate": true,
	"$inc": true, "$mul": true, "$min": true, "$max": true,
	"$push": true, "$pop": true, "$pull": true, "$pullAll": true, "$addToSet": true, "$bit": true,
}

// update is a document of update operators.
type update struct {
	raw bson.Raw
}

func parseUpdate(raw bson.Raw) (*update, error) {
	d, err := parseDocument(raw)
	if err != nil {
		return nil, err
	}
	for _, operator := range d {
		if !updateOperators[operator.Key] {
			return nil, errorf(failedToParse, "Unknown modifier: %s", operator.Key)
		}
		fields, ok := operator.Value.(bson.D)
		if !ok {
			return nil, errorf(failedToParse, "Modifiers operate on fields but we found another type instead: %s", operator.Key)
		}
		for _, f := range fields {
			if strings.Contains(f.Key, "$") {
				return nil, refused("positional operators and field names with $")
			}
			if operator.Key == "$pull" && (classOf(f.Value) == classDocument || classOf(f.Value) == classRegex) {
				return nil, refused("$pull by condition")
			}
		}
	}
	return &update{raw}, nil
}

// apply returns the document after the update. inserting is set for the new
// document of an upsert.
func (u *update) apply(doc bson.Raw, inserting bool) (bson.Raw, error) {
	var d, operators v1.D
	if err := v1.Unmarshal(doc, &d); err != nil {
		return nil, err
	}
	if err := v1.Unmarshal(u.raw, &operators); err != nil {
		return nil, err
	}
	// An operator without fields does nothing; lungo wants at least one operator.
	if len(operators) > 0 {
		if _, err := mongokit.Apply(bsonkit.Doc(&d), &v1.D{}, &operators, inserting, nil); err != nil {
			return nil, errorf(badValue, "%s", err)
		}
	}
	return v1.Marshal(d)
}

// upsertBase is the document an upsert begins with: the filter's equalities.
func upsertBase(f *filter) (bson.Raw, error) {
	var equalities v1.D
	for _, t := range f.terms {
		if t.operator != "$eq" {
			continue
		}
		raw, err := bson.Marshal(bson.D{{Key: t.path, Value: t.operand}})
		if err != nil {
			return nil, err
		}
		var d v1.D
		if err := v1.Unmarshal(raw, &d); err != nil {
			return nil, err
		}
		equalities = append(equalities, d...)
	}
	base := v1.D{}
	if len(equalities) > 0 {
		set := v1.D{{Key: "$set", Value: equalities}}
		if _, err := mongokit.Apply(&base, &v1.D{}, &set, true, nil); err != nil {
			return nil, errorf(badValue, "%s", err)
		}
	}
	return v1.Marshal(base)
}
