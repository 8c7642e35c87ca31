package bench

import (
	"fmt"
	"strconv"
)

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

// appendUser appends the i-th user as a client would send it: about 1 KB.
func (p people) appendUser(dst []byte, i int) []byte {
	h := p.hash(i)
	given, family := givenNames[h%uint64(len(givenNames))], familyNames[h>>8%uint64(len(familyNames))]
	title, department := titles[h>>16%uint64(len(titles))], departments[h>>24%uint64(len(departments))]
	n := p.number(i)
	k := mix(h)
	dst = append(dst, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],"externalId":"`...)
	dst = fmt.Appendf(dst, "%08x-%04x-4%03x-8%03x-%012x", uint32(k), uint16(k>>32), uint16(k>>48)&0xfff, uint16(h>>32)&0xfff, h>>16)
	dst = append(dst, `","userName":"`...)
	dst = p.appendUserName(dst, i)
	dst = fmt.Appendf(dst, `","name":{"formatted":"%[1]s %[2]s","familyName":"%[2]s","givenName":"%[1]s"},"displayName":"%[1]s %[2]s"`, given, family)
	dst = fmt.Appendf(dst, `,"title":"%s","userType":"Employee","preferredLanguage":"en-GB","locale":"en-GB","timezone":"Europe/Stockholm","active":true,"emails":[{"value":"`, title)
	dst = p.appendUserName(dst, i)
	dst = append(dst, `","type":"work","primary":true},{"value":"`...)
	dst = appendLower(dst, given)
	dst = fmt.Appendf(dst, `.%d@mail.example.net","type":"home"}],"phoneNumbers":[{"value":"+46 8 %03d %02d %02d","type":"work"},{"value":"+46 70 %03d %02d %02d","type":"mobile"}]`,
		n, k%1000, k>>10%100, k>>17%100, k>>24%1000, k>>34%100, k>>41%100)
	dst = fmt.Appendf(dst, `,"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"employeeNumber":"%d","costCenter":"%04d","organization":"Example Industries","department":"%s"}}`,
		n, k>>48%10_000, department)
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
