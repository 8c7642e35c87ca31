package bench

import "strconv"

// people makes users, the same ones for the same seed. The i-th name is a hash
// of i: users made one after the other have names far apart, as those of a real
// company have, so that an index is not flattered by sorted keys.
type people struct{ seed uint64 }

var (
	givenNames = []string{
		"Agnes", "Ahmed", "Aisha", "Amira", "Ana", "Anders", "Anna", "Bao", "Bjorn", "Carlos", "Chen", "Chiara", "Daniel",
		"David", "Elena", "Elin", "Emma", "Erik", "Fatima", "Felix", "Gabriel", "Grace", "Hanna", "Hiroshi", "Ingrid",
		"Ivan", "James", "Jin", "Johan", "Julia", "Karin", "Kofi", "Lars", "Leila", "Linnea", "Lucas", "Maria", "Mateo",
		"Mei", "Mohammed", "Nadia", "Nils", "Nora", "Olga", "Omar", "Oscar", "Priya", "Rahul", "Rosa", "Samuel", "Sara",
		"Sofia", "Sven", "Tariq", "Thomas", "Ulrika", "Valentina", "Viktor", "Wei", "William", "Yara", "Yusuf", "Zofia", "Zoe",
	}
	familyNames = []string{
		"Adeyemi", "Ahmadi", "Andersson", "Bauer", "Berg", "Bergstrom", "Bianchi", "Brown", "Carlsson", "Costa", "Dahl",
		"Diaz", "Dubois", "Ekstrom", "Eriksson", "Fernandez", "Fischer", "Garcia", "Gonzalez", "Gupta", "Hansen", "Hassan",
		"Holm", "Ivanova", "Jansen", "Johansson", "Jones", "Karlsson", "Khan", "Kim", "Kowalski", "Larsson", "Lee", "Lindqvist",
		"Lopez", "Lundgren", "Martin", "Mensah", "Moreau", "Muller", "Nakamura", "Nguyen", "Nilsson", "Novak", "Nystrom",
		"Okafor", "Olsson", "Patel", "Persson", "Petrov", "Rossi", "Sandberg", "Santos", "Sato", "Schmidt", "Silva", "Singh",
		"Smith", "Suzuki", "Svensson", "Tanaka", "Wang", "Yilmaz", "Zhang",
	}
	titles = []string{
		"Accountant", "Account Manager", "Business Analyst", "Customer Success Manager", "Data Engineer", "Designer",
		"Facilities Coordinator", "Financial Controller", "Legal Counsel", "Marketing Manager", "Nurse", "Office Manager",
		"Product Owner", "Project Manager", "Recruiter", "Sales Representative", "Software Engineer", "Support Technician",
		"Systems Administrator", "Warehouse Supervisor",
	}
	departments = []string{
		"Corporate Finance", "Customer Support", "Engineering", "Facilities", "Human Resources", "Information Technology",
		"Legal", "Logistics", "Marketing", "Procurement", "Research and Development", "Sales",
	}
)

// mix is splitmix64: every bit of x changes about half of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// number scatters i over all 32-bit numbers, no two alike: each step can be
// undone.
func (p people) number(i int) uint32 {
	x := uint32(i) + uint32(p.seed)
	x = (x ^ x>>16) * 0x7feb352d
	x = (x ^ x>>15) * 0x846ca68b
	x ^= uint32(p.seed >> 32)
	return x ^ x>>16
}

func (p people) hash(i int) uint64 { return mix(p.seed ^ mix(uint64(i))) }

// appendUserName appends the userName of the i-th user.
func (p people) appendUserName(dst []byte, i int) []byte {
	h := p.hash(i)
	dst = appendLower(dst, givenNames[h%uint64(len(givenNames))])
	dst = append(dst, '.')
	dst = appendLower(dst, familyNames[h>>8%uint64(len(familyNames))])
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, uint64(p.number(i)), 36)
	return append(dst, "@example.com"...)
}

func (p people) userName(i int) string { return string(p.appendUserName(nil, i)) }

// appendUser appends the i-th user as a client would send it: about 1 KB. It is
// made while the server is being measured on the same processors, so without fmt.
func (p people) appendUser(dst []byte, i int) []byte {
	h := p.hash(i)
	given, family := givenNames[h%uint64(len(givenNames))], familyNames[h>>8%uint64(len(familyNames))]
	title, department := titles[h>>16%uint64(len(titles))], departments[h>>24%uint64(len(departments))]
	n := uint64(p.number(i))
	k := mix(h)
	text := func(parts ...string) {
		for _, s := range parts {
			dst = append(dst, s...)
		}
	}
	text(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],"externalId":"`)
	dst = appendDigits(dst, k&0xffffffff, 16, 8)
	dst = appendDigits(append(dst, '-'), k>>32&0xffff, 16, 4)
	dst = appendDigits(append(dst, "-4"...), k>>48&0xfff, 16, 3)
	dst = appendDigits(append(dst, "-8"...), h>>32&0xfff, 16, 3)
	dst = appendDigits(append(dst, '-'), h>>16, 16, 12)
	text(`","userName":"`)
	dst = p.appendUserName(dst, i)
	text(`","name":{"formatted":"`, given, " ", family, `","familyName":"`, family, `","givenName":"`, given, `"},"displayName":"`, given, " ", family,
		`","title":"`, title, `","userType":"Employee","preferredLanguage":"en-GB","locale":"en-GB","timezone":"Europe/Stockholm","active":true,"emails":[{"value":"`)
	dst = p.appendUserName(dst, i)
	text(`","type":"work","primary":true},{"value":"`)
	dst = appendLower(dst, given)
	dst = strconv.AppendUint(append(dst, '.'), n, 10)
	text(`@mail.example.net","type":"home"}],"phoneNumbers":[{"value":"+46 8 `)
	dst = appendDigits(dst, k%1000, 10, 3)
	dst = appendDigits(append(dst, ' '), k>>10%100, 10, 2)
	dst = appendDigits(append(dst, ' '), k>>17%100, 10, 2)
	text(`","type":"work"},{"value":"+46 70 `)
	dst = appendDigits(dst, k>>24%1000, 10, 3)
	dst = appendDigits(append(dst, ' '), k>>34%100, 10, 2)
	dst = appendDigits(append(dst, ' '), k>>41%100, 10, 2)
	text(`","type":"mobile"}],"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"employeeNumber":"`)
	dst = strconv.AppendUint(dst, n, 10)
	text(`","costCenter":"`)
	dst = appendDigits(dst, k>>48%10_000, 10, 4)
	text(`","organization":"Example Industries","department":"`, department, `"}}`)
	return dst
}

// appendDigits appends a number that has at most this many digits, with zeros
// before it.
func appendDigits(dst []byte, n, base uint64, digits int) []byte {
	dst = append(dst, "000000000000"[:digits]...)
	for at := len(dst) - 1; n > 0; at, n = at-1, n/base {
		dst[at] = "0123456789abcdef"[n%base]
	}
	return dst
}

func appendLower(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
