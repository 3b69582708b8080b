"""Patterns: what tells of people in any text, whatever its header says (DEID 6).

They are matched against folded text: lower case, without accents. Addresses are those of
English, German, French, Spanish, Italian and Dutch; 164.514(b)(2)(i)(B) wants streets, towns
and post codes gone.
"""

from __future__ import annotations

import re
from typing import Final

from pleura.anonymizer.months import FROM_FIGURES, FROM_NAME

_WORDS: Final = r"(?:[^\W\d_]{3,}\s+){1,3}"
_STREET: Final = rf"""(?:
      \b\d{{1,5}}[a-z]?\s+(?:(?:n|s|e|w|ne|nw|se|sw)\.?\s+)?{_WORDS}(?:st|dr|ct|pl|ln|ave?|rd|blvd)
        \.?,?\s(?:apt|apartment|suite|ste|unit|floor)\b\.?\s?\#?\s?\w{{1,5}}\b
    | \b\d{{1,5}}[a-z]?\s+{_WORDS}(?:street|avenue|road|lane|boulevard|terrace|crescent
        |highway|parkway|blvd|ave|rd)\b\.?                                 # 12 Elm Street
    | \b\d{{1,5}}[a-z]?\s+(?:[nsew]\.?\s+)?{_WORDS}
        (?:st\.|drive|court|square|place|close|gardens|way|mews|grove)(?=\s*(?:,|;|\n|$))
    | \b\d{{1,5}}[a-z]?\s+(?:n|s|e|w|ne|nw|se|sw)\.?\s+{_WORDS}(?:st|dr|ct|pl|ln|ave?|rd|blvd)\b
    | \b\d{{1,5}}[a-z]?\s+{_WORDS}(?:st|dr|ct|pl|ln)\b\.?(?=,?\s+[^\W\d_]+,?\s+[a-z]{{2}}\s+\d{{5}})
    | \b[^\W\d_]{{3,}}\s+(?:street|avenue|road|lane|boulevard)\s+\d{{1,4}}\b  # Elm Road 12
    | \b[^\W_]*(?:strasse|str\.|gasse|allee|platz|straat|laan|gracht)\s*\d{{1,4}}\s?[a-z]?\b
    | \b\d{{1,4}}\s?(?:bis\s|ter\s|,\s?)?(?:rue|boulevard|chemin|impasse|quai)
        \s(?:[^\W\d_]+[\s'-]?){{1,4}}
    | \b(?:calle|avenida|plaza|piazza|viale|corso|rua)
        \s(?:[^\W\d_]+\s){{0,3}}[^\W\d_]+,?\s\d{{1,4}}\b
    )"""  # fmt: skip
# What may follow a street: post code and town, each after a comma or not.
_TOWN: Final = (
    r"(?:\s*,?\s*(?:[a-z]{1,2}[-\s])?\d{4,6}(?:\s+[^\W\d_]{3,}){0,2}"
    r"|\s*,\s*[^\W\d_]+(?:\s[^\W\d_]+)?(?=\s*(?:,|;|\.|\n|$)|\s+[a-z]{0,2}\d)){0,3}"
)
# Begun like a month, misspelled or inflected; not the words of medicine that begin so.
_MONTH: Final = (
    r"(?:(?:jan|feb|mar(?![abgi-mo-rv])|mrz|maerz|apr(?![eo])|may|mai(?![dlmn])|jun(?![cgkt])|jul"
    r"|aug(?![ehm])|sep(?![aiups]|t[au]|tic)|oct(?![ae]|og|op)|okt|nov(?!a|el(?!l)|ic)"
    r"|dec(?![ahiklor-u]|e[^m])|dez|ene(?!m|rg)|abr(?![aou]|id)|ago(?![gn])|dic(?![hkot]|i[^e])"
    r"|fev(?!er(?!ei))|avr|juin|juil|aou)[a-z]*|gennaio|genn|maggio|magg|giugno|giu|luglio|lug"
    r"|settembre|sett|ottobre|ott|maart|mrt|mei)"
)
# Spelled right, so that it tells a month beside a year alone: `marked 2019` is none.
_MONTH_NAME: Final = r"""(?:jan(?:uar[yi]?|vier|eiro|ner)?|jaen(?:ner)?|gen(?:naio|n)?|ene(?:ro)?
    |feb(?:ruar[yi]?|rero|braio|r)?|fev(?:rier|ereiro|r)?|mar(?:ch|s|ts|z|zo|co)?|maerz|mrz|maart
    |mrt|apr(?:ile?|il)?|avr(?:il)?|abr(?:il)?|may[o]?|mai[o]?|maj|mei|mag(?:gio|g)?|jun[ei]?|junio
    |junho|juin|giu(?:gno)?|jul[yi]?|julio|julho|juil(?:let)?|lug(?:lio)?|aug(?:ust(?:us|i)?)?
    |agosto|ago|aout|sep(?:t|tember|tembre|tiembre)?|set(?:t|tembre|iembre|embro)?|o[ck]t(?:ober)?
    |octobre|octubre|ott(?:obre)?|out(?:ubro)?|nov(?:ember|embre|iembre|embro)?|de[cz](?:ember|embre
    |embro)?|dic(?:iembre|embre)?)"""
_CENTURY: Final = r"(?:19|20)\d\d"
_YEAR: Final = rf"(?:{_CENTURY}|['’`´]\s?\d\d)"
_DAY: Final = r"(?:0?[1-9]|[12]\d|3[01])"
_TWO: Final = r"(?:0[1-9]|[12]\d|3[01])"
_TWO_MONTH: Final = r"(?:0[1-9]|1[0-2])"
_ROMAN: Final = r"(?:i{1,3}|iv|vi{0,3}|ix|xi{0,2})"
_START: Final = r"(?<![\d.,+-])(?<!\d[/ ])"  # not within a number or a list of them
_END: Final = r"(?!\d|[.,]\d)"
# Days and months in figures and months by name with a year, searched for where any digit is.
# The separators of one date are the same, but for spaces.
DATES: Final = re.compile(
    rf"""
      (?=\d){_START}(?:
        {_DAY}\s{{0,2}}(?P<s1>[-./·|_])\s{{0,2}}{_DAY}\s{{0,2}}(?P=s1)\s{{0,2}}{_YEAR}{_END}
      | {_TWO}\s{{0,2}}(?P<s2>[-./·|_])\s{{0,2}}{_TWO}\s{{0,2}}(?P=s2)\s{{0,2}}\d\d{_END}
      | {_CENTURY}\s{{0,2}}(?P<s3>[-./·|_,])\s{{0,2}}{_DAY}\s{{0,2}}(?P=s3)\s{{0,2}}{_DAY}{_END}
      | (?:{_DAY},{_DAY},{_CENTURY}|{_TWO},\s{_TWO},\s{_CENTURY}|{_TWO}\s{_TWO}\s{_YEAR}){_END}
      | (?:{_CENTURY}[\s./_-]{_TWO_MONTH}{_TWO}|{_TWO}{_TWO}[/_-]{_CENTURY}){_END}
      | (?:{_TWO_MONTH}(?:\s?[/|]\s?|[-_.])|[1-9]/){_CENTURY}{_END}(?![-/_|]|\s?mm\b)
      | {_CENTURY}(?:\s?/\s?|[-_]){_TWO_MONTH}{_END}(?![-/_|])
      | {_CENTURY}[\s,./_-]{{1,2}}{_MONTH_NAME}[\s,./_-]{{1,2}}(?:the\s)?\d{{1,2}}(?:st|nd|rd|th)?\b
      | {_CENTURY}[./_-]{_MONTH_NAME}\b
      | {_CENTURY}-?w(?:0[1-9]|[1-4]\d|5[0-3])(?:-?[1-7])?\b
      | {_DAY}\s?(?P<s4>[-./])\s?{_ROMAN}\s?(?P=s4)\s?(?:{_YEAR}|\d\d){_END}
      | {_DAY}\s(?:i{{2,3}}|iv|vi{{1,3}}|ix|xi{{1,2}})\s{_CENTURY}{_END}
      | {FROM_FIGURES}
      )
    | (?<![^\W\d_])(?:{FROM_NAME})
    | (?<![^\W\d_])(?=[adefgjlmnos]){_MONTH_NAME}
        (?:\s(?:of|de|del|di|van))?[\s,./_-]{{0,3}}{_YEAR}\b
    """,
    re.VERBOSE,
)  # fmt: skip
_YEARS: Final = r"(?:y\b|yo[mf]?\b|y/o|yrs?\b|years?\b|jahr|ans\b|anos\b|anni\b|jaar\b|jarig)"
_RUN: Final = (
    r"(?:\d{7,}|\d(?:[\s.-]\d(?!\d)){2,}"
    r"|\(?\d+\)?(?:[\s()/.-]{1,3}\d{2,}(?!\d|[x.]\d|\s?(?:mm|cm|kv|mas?|hu|ms)\b))*)"
)
# Numbers behind a label, which stays, and groups of digits that are a number together.
NUMBERS: Final = re.compile(
    rf"""
      (?=\d){_START}(?:
        (?=(?:-?\d){{7}})\d{{1,6}}(?:-\d{{1,6}}){{2,}}(?![\d.,]|-\d)
      | (?=(?:-?\d){{8}})\d{{2,6}}-\d{{2,6}}(?![.,-]?\d|\s?(?:hu|ms?|mm|cm|s|kev|mev)\b)
      | 0\d{{1,4}}\s?[/-]\s?\d(?=(?:[\s/-]?\d){{2}})\d+(?:[\s/-]\d{{2,}})*(?![.,]?\d)
      )
    | \(0\s?\d{{1,4}}\)[\s-]?\d{{2,}}(?:[\s-]?\d{{2,}})*
    | \b(?=[abcdefhijklmprstvz])(?:
        (?:mrn|ssn|accession|tel(?:efon|efono|ephone)?|phone|fax|pager|bleep|beeper|dect|pieps?er
          |durchwahl|postfach|p\.?\s?o\.?\sbox|akten?(?:zeichen)?
          |(?:fall|pat(?:ient(?:en)?)?|rontgen|roe?ntgen|auftrags?|akten|kranken|versicherten|haus
            |archiv|untersuchungs|vorgangs|telefon|handy|mobil)
            \.?[\s-]?(?:nr|nummer|no)\b
          |(?:case|chart|file|record|account|claim|policy|member|order|request|visit|encounter|exam
            |study|patient|hospital|unit|ref(?:erence)?)\s?(?:no|nr|number|id)\b
          |(?:(?:acc|id|mobile?|case|chart|file|record|account)(?=\s?[:=\#])))
          \b(?:\s(?:no|nr|number))?[\s:.=\#/-]{{0,4}}
          (?P<n1>(?:[a-z]{{2}}[\s-])?{_RUN}(?:/\d+)*)
      | chart\s(?P<n5>\d{{3,}}(?:/\d+)*)(?!\s?[a-z]{{2}}\b)
      | (?:call|dial|ext|extension)\b\.?(?:\s(?:back|at|on|me|us))*[\s:]{{1,2}}
          (?P<n2>(?=[(\d](?:[\s()/-]?\d){{2}})(?!\d+\s?[a-z]{{2}}\b){_RUN})
      | (?:mrn|accession|ssn|id)\b(?:\s(?:no|nr|number))?[\s:.=\#]{{1,4}}
          (?P<n3>(?:[^\W\d_]{{1,4}}-)?(?=[^\W\d_]*\d)[^\W_]+(?:[-_/][^\W_]+)*)
      | (?:aged?|alter|eta|edad|leeftijd)(?:[\s:=]{{1,3}}(?:is|of|over|above|about|von|uber|ca\.?
          |di|van|de)\b){{0,2}}[\s:=]{{1,3}}(?P<n4>9\d|1[0-4]\d)\b
      )
    """,
    re.VERBOSE,
)  # fmt: skip
# Letters or figures one by one, with something between.
SPACED: Final = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,3}[^\W_](?![^\W_])){2,}")
SPACED_LETTERS: Final = re.compile(
    r"(?<![^\W_])[^\W\d_](?:(?:[ \t]{1,3}|[._/|*-])[^\W\d_](?![^\W_])){3,}"
)
SPACED_FIGURES: Final = re.compile(r"(?<![^\W_])\d(?:(?:[ \t]{1,3}|[._-])\d(?![^\W_])){4,}")
OLD_IN_WORDS: Final = ("ninety", "hundred", "neunzig", "noventa", "novanta", "negentig", "vingt")
AGES: Final = re.compile(
    rf"""
    (?: \bninety(?:[\s-](?:one|two|three|four|five|six|seven|eight|nine))?
      | \b(?:a|one)[\s-]hundred(?:\s(?:and\s)?[a-z]{{3,6}})?
      | [a-z]*neunzig | \bnoventa(?:\sy\s[a-z]{{3,6}})? | \bnovant[a-z]* | [a-z]{{0,16}}negentig
      | \bquatre[\s-]vingts?[\s-](?:dix|onze|douze|treize|quatorze|quinze|seize)
        (?:[\s-](?:sept|huit|neuf))?
    )(?=[\s-]*{_YEARS})
    """,
    re.VERBOSE,
)
# A figure that is an age where a person stands beside it, or years after it.
OLD_FIGURE: Final = re.compile(r"(?<![\d.,+-])(?<!\d/)(?:9\d|1[0-4]\d)(?!\d|[.,/x-]\d)")
_PERSON: Final = (
    r"(?:pt|pat|patient(?:in)?|she|he|male|female|(?:wo)?man|lady|gentleman|frau|herr|mann|mother"
    r"|father|mutter|vater|sie|er|mannlich|weiblich)"
)
OLD_BEFORE: Final = re.compile(
    rf"(?:\b{_PERSON}\b[\s,.:]{{1,3}}(?:(?:is|was|ist|war|est|aged?|now|jetzt|already|bereits)\s)?\(?"
    rf"|\b{_PERSON}\s?\()\Z"
)
OLD_SEX_BEFORE: Final = re.compile(r"(?<![^\W_])[fmw]\Z")
OLD_SEX_AFTER: Final = re.compile(
    r"\s(?:w/?|with|mit|c/o|presents?|presenting|pt)(?!\w|\s[ck]ontrast)"
)
OLD_AFTER: Final = re.compile(
    rf"\s?(?:j(?:r|hr|ahre?)?\.|jr\b|j\.?\s?(?:alt|[mwf]\b))|a\.?[\s,]{{1,2}}(?:alt|[mwf])\b"
    rf"|\)?[\s,;]{{0,2}}{_PERSON}\b|\)?\s?,\s?[mwf]\b|[\s-]?jg\b"
)
# What no age has behind it: units, counts and rates.
NO_AGE: Final = re.compile(
    r"\)?\s?(?:%|°|/|mm|cm|m[lgs]\b|mgy|m?gy|kvp?\b|kev|mev|ma\b|mas\b|kg|g\b|bpm|ms\b|s\b|hu\b|mhz|hz|fps"
    r"|x\s?\d|deg|mci|mbq|min|sec|db\b|lbs?\b|cc\b|mmhg|beats|slices|images|views|percent|prozent)"
)
PATTERNS: Final = re.compile(
    rf"""
      (?<![\w.+-])[\w.+-]+@[\w.-]+                                        # mail
    | \b(?:https?|ftp)://\S+ | \bwww\.\S+                                 # address of a page
    | \b\d{{1,3}}(?:\.\d{{1,5}}){{3,}}\b                                  # IPs, UIDs
    | \b(?:[0-9a-f]{{1,4}}:){{3,}}[0-9a-f:]+                              # IPv6, MAC
    | (?=\d)(?:
        \b\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}\b                           # dates
      | \b\d{{1,2}}(?:st|nd|rd|th|er|e|°|o|\.)?(?:\s(?:of|de|di|van))?[\s./_-]*{_MONTH}(?![^\W\d_])
          (?:(?:\s(?:of|de|del|di|van))?(?:[\s,._/-]*\d{{2,4}}\b|\s?['’`´]\s?\d\d\b))?
      | (?<!\d)\d{{1,4}}_\d{{1,2}}_\d{{1,4}}(?!\d) | \b(?:19|20)\d\d\s\d\d\s\d\d\b
      )
    | \d{{2,4}}年\d{{1,2}}月(?:\d{{1,2}}日)? | \b[mtshr]\d{{1,2}}\.\d{{1,2}}\.\d{{1,2}}\b
    | \b{_MONTH}[\s.-]*\d{{1,2}}(?:st|nd|rd|th)?\b(?:[\s,]*\d{{4}}\b)?
    | (?=\d)(?:
        \b\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?(?:\s*[ap]m)?\b           # times
      | \b\d{{3}}[-\s]\d{{2}}[-\s]\d{{4}}\b                                 # SSN
      )
    | \b[a-z]{{2}}\s?\d{{2}}\s?\d{{2}}\s?\d{{2}}\s?[a-d]\b                # British NI number
    | \b(?=(?:[\s-]?\d){{9}})\d{{1,4}}(?:[\s-]\d{{2,4}}){{2,}}\b          # others of their kind
    | {_STREET}{_TOWN}
    | \b[a-z]{{1,2}}\d[a-z\d]?\s\d(?!nd\b|rd\b|th\b)[abd-hjlnp-uw-z]{{2}}\b  # British post code
    | \b[^\W\d_]+,?\s+[a-z]{{2}}\s+\d{{5}}(?:-\d{{4}})?\b                  # town, state, ZIP
    | (?:\+|\b00)\d{{1,3}}(?:[\s()/-]{{0,2}}\d{{2,}})+                    # phones
    | \b\d{{3}}\.\d{{3}}\.\d{{4}}\b | \b\d{{3}}-\d{{4}}\b
    | \(\d{{2,5}}\)[\s-]?\d{{3,}}(?:[\s-]?\d{{2,}})* | \b\d{{2,4}}[\s/-]\d{{3,4}}[\s/-]?\d{{2,}}
    | (?<![^\W_])[^\W_]*\d{{5,}}[^\W_]*(?:[-/]\d+)*                     # long digit runs
    | \b(?:9\d|1[0-4]\d)(?=[\s-]*(?:{_YEARS}|/?\s?[mf]\b))
    | \b0?(?:9\d|1[0-4]\d)y\b
    """,
    re.VERBOSE,
)  # fmt: skip
