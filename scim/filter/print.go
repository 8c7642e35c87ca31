package filter

import (
	"strconv"
	"time"

	"github.com/roster-id/roster/schemas"
)

// String implements [Expr].
func (a And) String() string { return string(a.write(nil, nil)) }

// String implements [Expr].
func (o Or) String() string { return string(o.write(nil, nil)) }

// String implements [Expr].
func (n Not) String() string { return string(n.write(nil, nil)) }

// String implements [Expr].
func (p Present) String() string { return string(p.write(nil, nil)) }

// String implements [Expr].
func (c Compare) String() string { return string(c.write(nil, nil)) }

// String implements [Expr].
func (v ValuePath) String() string { return string(v.write(nil)) }

// String prints the path so that parsing it again gives an equal Path.
func (p Path) String() string {
	if p.Attr == nil {
		return ""
	}
	dst := []byte(p.Attr.Path)
	if p.Filter != nil {
		dst = ValuePath{p.Attr, p.Filter}.write(nil)
	}
	if p.Sub != nil {
		dst = append(append(dst, '.'), p.Sub.Name...)
	}
	return string(dst)
}

// write appends e as it is written inside the brackets of in, or outside of any
// when that is nil.
func write(dst []byte, e Expr, in *schemas.Attribute) []byte {
	switch e := e.(type) {
	case And:
		return e.write(dst, in)
	case Or:
		return e.write(dst, in)
	case Not:
		return e.write(dst, in)
	case Present:
		return e.write(dst, in)
	case Compare:
		return e.write(dst, in)
	case ValuePath:
		return e.write(dst)
	}
	return append(dst, e.String()...)
}

func (a And) write(dst []byte, in *schemas.Attribute) []byte {
	for i, e := range a {
		if i > 0 {
			dst = append(dst, " and "...)
		}
		if _, ok := e.(Or); ok {
			dst = append(write(append(dst, '('), e, in), ')')
		} else {
			dst = write(dst, e, in)
		}
	}
	return dst
}

func (o Or) write(dst []byte, in *schemas.Attribute) []byte {
	for i, e := range o {
		if i > 0 {
			dst = append(dst, " or "...)
		}
		dst = write(dst, e, in)
	}
	return dst
}

func (n Not) write(dst []byte, in *schemas.Attribute) []byte {
	return append(write(append(dst, "not ("...), n.Expr, in), ')')
}

func (p Present) write(dst []byte, in *schemas.Attribute) []byte {
	return append(name(dst, p.Attr, p.element || in != nil), " pr"...)
}

func (c Compare) write(dst []byte, in *schemas.Attribute) []byte {
	dst = name(dst, c.Attr, c.element || in != nil)
	dst = append(append(append(dst, ' '), c.Op.String()...), ' ')
	switch v := c.Value.(type) {
	case bool:
		return strconv.AppendBool(dst, v)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case float64:
		return schemas.AppendFloat(dst, v)
	case string:
		if c.Text == "" { // made by hand
			return schemas.AppendString(dst, v)
		}
	case time.Time:
		if c.Text == "" {
			return schemas.AppendString(dst, v.Format(time.RFC3339Nano))
		}
	}
	return schemas.AppendString(dst, c.Text)
}

func (v ValuePath) write(dst []byte) []byte {
	dst = append(append(dst, v.Attr.Path...), '[')
	return append(write(dst, v.Filter, v.Attr), ']')
}

func name(dst []byte, a *schemas.Attribute, element bool) []byte {
	if element {
		return append(dst, a.Name...)
	}
	return append(dst, a.Path...)
}
