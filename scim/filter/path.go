package filter

import "github.com/roster-id/roster/schemas"

// ParsePath reads the path of a PATCH operation on resources of type rt
// (RFC 7644 §3.5.2): an attribute with or without its schema URN, one followed by
// a filter in brackets, and a sub-attribute after those; or the URN of an
// extension alone. An attribute that may not be read may still be written, so
// only the filter refuses it. Every error is a *[SyntaxError].
func ParsePath(text string, rt *schemas.ResourceType, l Limits) (Path, error) {
	p := parser{text: text, rt: rt, limits: l}
	path, err := p.path()
	if err != nil {
		return Path{}, err
	}
	return path, nil
}

func (p *parser) path() (path Path, err error) {
	if err := p.begin("the path is empty"); err != nil {
		return path, err
	}
	if path.Attr, err = p.attribute(); err != nil {
		return path, err
	}
	if p.at('[') {
		if path.Filter, err = p.brackets(path.Attr); err != nil {
			return path, err
		}
		if p.take('.') {
			p.in = path.Attr
			if path.Sub, err = p.attribute(); err != nil {
				return path, err
			}
		}
	}
	return path, p.end("expected the end of the path")
}
