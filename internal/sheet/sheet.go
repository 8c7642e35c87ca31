// Package sheet keeps spreadsheets from running what stands in a table.
package sheet

import "regexp"

// A formula is what begins as one, behind what a spreadsheet may pass over or take for a quote.
// Where a comma separates decimals, a semicolon separates cells, and quotes do not hold them together.
const formula = "'*[ \u00a0\u3000\ufeff\x00\"]*[-=+@＝＋－＠])"

var (
	formulas = regexp.MustCompile("(^|[;\t\r\n])(" + formula)
	harmed   = regexp.MustCompile("(^|[;\t\r\n])'(" + formula)
)

// Harmless returns a text for a cell of CSV with an apostrophe before each part that a spreadsheet
// would take for a formula: people choose their names.
func Harmless(s string) string { return formulas.ReplaceAllString(s, "$1'$2") }

// Meant returns the text that Harmless made s of.
func Meant(s string) string { return harmed.ReplaceAllString(s, "$1$2") }
