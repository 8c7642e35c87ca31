package mongotest

import (
	"math/big"
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
	var paths []string
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
			for _, p := range paths {
				if within(p, f.Key) || within(f.Key, p) {
					return nil, errorf(conflictingUpdateOperators, "Updating the path '%s' would create a conflict at '%s'", f.Key, p)
				}
			}
			paths = append(paths, f.Key)
		}
	}
	return &update{raw}, nil
}

// within reports whether a path is another one or leads below it.
func within(path, other string) bool {
	return path == other || strings.HasPrefix(path, other+".")
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
		if overflows(d, operators) {
			return nil, refused("an overflow in $inc or $mul")
		}
		if _, err := mongokit.Apply(&d, &v1.D{}, &operators, inserting, nil); err != nil {
			if strings.Contains(err.Error(), "is not a number") {
				return nil, errorf(typeMismatch, "Cannot apply to a value of non-numeric type: %s", err)
			}
			return nil, errorf(badValue, "%s", err)
		}
	}
	return v1.Marshal(d)
}

// overflows reports whether an increment or a product leaves its integer type,
// where MongoDB takes a wider one or fails, and lungo does neither.
func overflows(d, operators v1.D) bool {
	for _, operator := range operators {
		if operator.Key != "$inc" && operator.Key != "$mul" {
			continue
		}
		for _, f := range operator.Value.(v1.D) {
			have, ok1 := integer(bsonkit.Get(&d, f.Key))
			by, ok2 := integer(f.Value)
			if !ok1 || !ok2 {
				continue
			}
			exact := big.NewInt(have)
			if operator.Key == "$inc" {
				exact.Add(exact, big.NewInt(by))
			} else {
				exact.Mul(exact, big.NewInt(by))
			}
			_, narrow := bsonkit.Get(&d, f.Key).(int32)
			_, narrowBy := f.Value.(int32)
			if !exact.IsInt64() || narrow && narrowBy && int64(int32(exact.Int64())) != exact.Int64() {
				return true
			}
		}
	}
	return false
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
