package schemas

import (
	"fmt"

	"github.com/elimity-com/scim/optional"
	"github.com/elimity-com/scim/schema"
)

// Elimity returns the schema in elimity's model. The sub-attribute $ref is left
// out: the model refuses the dollar sign that RFC 7643 §2.4 itself uses.
func (s *Schema) Elimity() schema.Schema {
	m := schema.Schema{ID: s.ID, Name: optional.NewString(s.Name), Description: optional.NewString(s.Description)}
	for _, a := range s.Attributes {
		m.Attributes = append(m.Attributes, a.elimity())
	}
	return m
}

// checkModel builds the schema in elimity's model, which panics on names and
// combinations RFC 7643 does not allow, and returns that panic as an error.
func checkModel(s *Schema) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("schema %s: %v", s.ID, r)
		}
	}()
	s.Elimity()
	return nil
}

func (a *Attribute) elimity() schema.CoreAttribute {
	if a.Type != Complex {
		return schema.SimpleCoreAttribute(a.elimitySimple())
	}
	p := schema.ComplexParams{
		Name: a.Name, Description: optional.NewString(a.Description), MultiValued: a.MultiValued, Required: a.Required,
		Mutability: elimityMutability[a.Mutability], Returned: elimityReturned[a.Returned], Uniqueness: elimityUniqueness[a.Uniqueness],
	}
	for _, s := range a.SubAttributes {
		if s.Name != "$ref" {
			p.SubAttributes = append(p.SubAttributes, s.elimitySimple())
		}
	}
	return schema.ComplexCoreAttribute(p)
}

func (a *Attribute) elimitySimple() schema.SimpleParams {
	d := optional.NewString(a.Description)
	mut, ret, uniq := elimityMutability[a.Mutability], elimityReturned[a.Returned], elimityUniqueness[a.Uniqueness]
	switch a.Type {
	case Boolean:
		return schema.SimpleBooleanParams(schema.BooleanParams{Name: a.Name, Description: d, MultiValued: a.MultiValued,
			Required: a.Required, Mutability: mut, Returned: ret})
	case Integer, Decimal:
		t := schema.AttributeTypeDecimal()
		if a.Type == Integer {
			t = schema.AttributeTypeInteger()
		}
		return schema.SimpleNumberParams(schema.NumberParams{Name: a.Name, Description: d, MultiValued: a.MultiValued,
			Required: a.Required, Mutability: mut, Returned: ret, Uniqueness: uniq, Type: t})
	case DateTime:
		return schema.SimpleDateTimeParams(schema.DateTimeParams{Name: a.Name, Description: d, MultiValued: a.MultiValued,
			Required: a.Required, Mutability: mut, Returned: ret})
	case Binary:
		return schema.SimpleBinaryParams(schema.BinaryParams{Name: a.Name, Description: d, MultiValued: a.MultiValued,
			Required: a.Required, Mutability: mut, Returned: ret})
	case Reference:
		p := schema.ReferenceParams{Name: a.Name, Description: d, MultiValued: a.MultiValued,
			Required: a.Required, Mutability: mut, Returned: ret, Uniqueness: uniq}
		for _, r := range a.ReferenceTypes {
			p.ReferenceTypes = append(p.ReferenceTypes, schema.AttributeReferenceType(r))
		}
		return schema.SimpleReferenceParams(p)
	}
	return schema.SimpleStringParams(schema.StringParams{Name: a.Name, Description: d, MultiValued: a.MultiValued,
		Required: a.Required, CaseExact: a.CaseExact, CanonicalValues: a.CanonicalValues,
		Mutability: mut, Returned: ret, Uniqueness: uniq})
}

var (
	elimityMutability = map[Mutability]schema.AttributeMutability{
		ReadWrite: schema.AttributeMutabilityReadWrite(), ReadOnly: schema.AttributeMutabilityReadOnly(),
		Immutable: schema.AttributeMutabilityImmutable(), WriteOnly: schema.AttributeMutabilityWriteOnly(),
	}
	elimityReturned = map[Returned]schema.AttributeReturned{
		ReturnedDefault: schema.AttributeReturnedDefault(), ReturnedAlways: schema.AttributeReturnedAlways(),
		ReturnedNever: schema.AttributeReturnedNever(), ReturnedRequest: schema.AttributeReturnedRequest(),
	}
	elimityUniqueness = map[Uniqueness]schema.AttributeUniqueness{
		UniquenessNone: schema.AttributeUniquenessNone(), UniquenessServer: schema.AttributeUniquenessServer(),
		UniquenessGlobal: schema.AttributeUniquenessGlobal(),
	}
)
