package auth

// Need is what a route asks of whoever calls it. Every route declares one; the
// zero Need is no declaration, and a server with such a route does not start.
type Need struct {
	declared     bool
	public       bool
	act          Act
	resourceType string
}

// Public asks for nothing.
func Public() Need { return Need{declared: true, public: true} }

// Token asks for a valid token, whatever its scopes.
func Token() Need { return Need{declared: true} }

// Scope asks for a token that may do this to resources of a type.
func Scope(a Act, resourceType string) Need {
	return Need{declared: true, act: a, resourceType: resourceType}
}

// Declared reports whether n is a declaration at all.
func (n Need) Declared() bool { return n.declared }

// Public reports whether n lets everyone in.
func (n Need) Public() bool { return n.declared && n.public }

// Met reports whether a principal that has been verified satisfies n.
func (n Need) Met(by Principal) bool {
	switch {
	case !n.declared:
		return false
	case n.public:
		return true
	case n.resourceType == "":
		return by.Kind != 0 && by.Tenant != ""
	}
	return by.May(n.act, n.resourceType)
}

// String names the need for listings of routes: "public", "token",
// "scope(User:write)".
func (n Need) String() string {
	switch {
	case !n.declared:
		return "undeclared"
	case n.public:
		return "public"
	case n.resourceType == "":
		return "token"
	}
	return "scope(" + n.resourceType + ":" + n.act.String() + ")"
}
