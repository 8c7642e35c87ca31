package schemas

// Type is the data type of an attribute (RFC 7643 §2.3).
type Type uint8

// The data types of RFC 7643 §2.3.
const (
	String Type = iota
	Boolean
	Decimal
	Integer
	DateTime
	Binary
	Reference
	Complex
)

var typeNames = [...]string{"string", "boolean", "decimal", "integer", "dateTime", "binary", "reference", "complex"}

// String returns the name RFC 7643 gives the type.
func (t Type) String() string { return typeNames[t] }

// Mutability says when a value may be defined or changed (RFC 7643 §7).
type Mutability uint8

// The mutabilities of RFC 7643 §7.
const (
	ReadWrite Mutability = iota
	ReadOnly
	Immutable
	WriteOnly
)

var mutabilityNames = [...]string{"readWrite", "readOnly", "immutable", "writeOnly"}

// String returns the name RFC 7643 gives the mutability.
func (m Mutability) String() string { return mutabilityNames[m] }

// Returned says when a value is part of a response (RFC 7643 §7).
type Returned uint8

// The returned characteristics of RFC 7643 §7.
const (
	ReturnedDefault Returned = iota
	ReturnedAlways
	ReturnedNever
	ReturnedRequest
)

var returnedNames = [...]string{"default", "always", "never", "request"}

// String returns the name RFC 7643 gives the characteristic.
func (r Returned) String() string { return returnedNames[r] }

// Uniqueness says among which resources a value is unique (RFC 7643 §7).
// Server and global are both enforced within the tenant.
type Uniqueness uint8

// The uniqueness characteristics of RFC 7643 §7.
const (
	UniquenessNone Uniqueness = iota
	UniquenessServer
	UniquenessGlobal
)

var uniquenessNames = [...]string{"none", "server", "global"}

// String returns the name RFC 7643 gives the characteristic.
func (u Uniqueness) String() string { return uniquenessNames[u] }

// Attribute is one attribute of a schema, with its characteristics (RFC 7643
// §7) and its place: sub-attributes have a Parent, and an extension is itself a
// complex attribute whose name is the extension's URN.
type Attribute struct {
	Name            string
	Description     string
	Type            Type
	MultiValued     bool
	Required        bool
	CaseExact       bool
	CanonicalValues []string
	ReferenceTypes  []string
	Mutability      Mutability
	Returned        Returned
	Uniqueness      Uniqueness
	SubAttributes   []*Attribute

	// Parent is nil for an attribute at the top of a resource.
	Parent *Attribute
	// Path is how the attribute is written in a filter or a PATCH path, in the
	// schema's spelling: "name.givenName", "urn:…:User:manager.value".
	Path string
	// Extension is true for the complex attribute that stands for a whole
	// schema extension.
	Extension bool
	// Detached is true for members and groups, whose values are membership rows
	// of their own and never part of the stored document.
	Detached bool

	label   []byte                // the name as it stands before a value in JSON
	subs    map[string]*Attribute // by folded name
	ruled   []*Attribute          // the sub-attributes that Finish has to look at
	numeric bool                  // it or a sub-attribute is a number
	request bool                  // it or a sub-attribute is returned only on request
	secret  bool                  // it or a sub-attribute is not Kept
}

// Sub returns the sub-attribute called name, compared without regard to case,
// or nil.
func (a *Attribute) Sub(name string) *Attribute {
	for _, s := range a.SubAttributes {
		if s.Name == name {
			return s
		}
	}
	return a.subs[foldName(name)]
}

// Leaf returns the attribute that a comparison with a, or a bare value written
// to a, is about: for a complex attribute its value sub-attribute (RFC 7643
// §2.4), otherwise a itself. It is nil for a complex attribute without value.
func (a *Attribute) Leaf() *Attribute {
	if a.Type != Complex {
		return a
	}
	return a.Sub("value")
}

// Readable reports whether the value may reach a client at all, be it in a
// response, through a filter or by the order of a list.
func (a *Attribute) Readable() bool {
	for p := a; p != nil; p = p.Parent {
		if !p.Kept() {
			return false
		}
	}
	return true
}

// Top returns the attribute at the top of the resource that a belongs to: a
// itself, its parent, or the extension it is part of.
func (a *Attribute) Top() *Attribute {
	for a.Parent != nil {
		a = a.Parent
	}
	return a
}

// String returns the path.
func (a *Attribute) String() string { return a.Path }

// clone returns a copy of a and its sub-attributes that has no place yet.
func (a *Attribute) clone() *Attribute {
	c := *a
	c.SubAttributes = make([]*Attribute, len(a.SubAttributes))
	for i, s := range a.SubAttributes {
		c.SubAttributes[i] = s.clone()
	}
	return &c
}

// adopt fills what Attribute derives from its place: paths, parents and the
// folded names of sub-attributes.
func (a *Attribute) adopt(parent *Attribute) {
	a.Parent = parent
	a.Path = a.Name
	if parent != nil {
		a.Path = parent.Path + parent.separator() + a.Name
	}
	a.label = append(AppendString(nil, a.Name), ':')
	a.numeric = a.Type == Integer || a.Type == Decimal
	a.request = a.Returned == ReturnedRequest
	a.secret = !a.Kept()
	a.subs = make(map[string]*Attribute, len(a.SubAttributes))
	for _, s := range a.SubAttributes {
		a.subs[foldName(s.Name)] = s
		s.adopt(a)
		a.numeric = a.numeric || s.numeric
		a.request = a.request || s.request
		a.secret = a.secret || s.secret
	}
	a.ruled = ruled(a.SubAttributes)
}

// separator stands between a and its sub-attribute in a path (RFC 7644 §3.10).
func (a *Attribute) separator() string {
	if a.Extension {
		return ":"
	}
	return "."
}
