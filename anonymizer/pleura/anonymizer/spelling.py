"""Spelling: the forms one name or number is written in, and letters that stand for one another.

The engine and the residual scan ask here alike, so that neither refuses what the other keeps.
Everything is folded already where a docstring says so. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Final

from pleura.anonymizer.vocabulary import MARKS, load_vocabulary

# Before letters are taken apart: an acute accent alone would become a space.
APOSTROPHES: Final = str.maketrans(
    dict.fromkeys(
        "\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u02c0\u02c1\u00b4\u2018\u2019\u201b\u2032\u2035"
        "\u055a\u05f3\ua78b\ua78c\uff07`",
        "'",
    )
)
_KANA: Final = {code: chr(code - 0x60) for code in range(0x30A1, 0x30F7)}
# Persian, Urdu and Arabic write some letters in two ways; so do Arabic feminine endings.
_ARABIC: Final = str.maketrans(
    "\u06cc\u0649\u06d2\u06a9\u0629\u06c1\u06c3\u06be\u06d5\u0671",
    "\u064a" * 3 + "\u0643" + "\u0647" * 5 + "\u0627",
)
# Letters of names in their simplified, Taiwanese and Japanese forms; common ones only.
_HAN: Final = str.maketrans(
    "張陳劉楊黃趙吳孫馬鄭謝許韓馮鄧葉蘇呂盧鐘鍾譚陸範賈韋鄒閻龍賀顧龔萬錢嚴湯蕭羅偉華國麗軍強傑濤"
    "紅鳳蘭雲東輝飛靜穎曉慶寶貴榮興峯學義勝順瑩賢愛豐鐵錦銘鋒鳴鵬鶴齊樂樹漢澤濱廣島嶋嶌髙﨑邊邉辺"
    "櫻桜斉齋斎沢浜広呉竜龜亀関關條進遠達運選連邁鄉郷長開陽雙靈韻頤頌顯飄驕驍鷹麥黨齡碩禮禎禕維緒"
    "緯績綺綠綱純紹細終絲經結絢給統繼纓羣聰聯肅聖職臨芸藝莊蓮蔣藍薩蘆處號觀覽詠詩誠語調諾識議護讓"
    "貞貢財責賓賴贊躍軒輔輪農適郵鄰",
    "张陈刘杨黄赵吴孙马郑谢许韩冯邓叶苏吕卢钟钟谭陆范贾韦邹阎龙贺顾龚万钱严汤萧罗伟华国丽军强杰涛"
    "红凤兰云东辉飞静颖晓庆宝贵荣兴峰学义胜顺莹贤爱丰铁锦铭锋鸣鹏鹤齐乐树汉泽滨广岛岛岛高崎边边边"
    "樱樱齐齐齐泽滨广吴龙龟龟关关条进远达运选连迈乡乡长开阳双灵韵颐颂显飘骄骁鹰麦党龄硕礼祯祎维绪"
    "纬绩绮绿纲纯绍细终丝经结绚给统继缨群聪联肃圣职临艺艺庄莲蒋蓝萨芦处号观览咏诗诚语调诺识议护让"
    "贞贡财责宾赖赞跃轩辅轮农适邮邻",
)
# Letters that Unicode does not take apart; the last ones are the Arabic and the Korean fillers.
LETTERS: Final = (
    str.maketrans(
        {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"}
        | {"ħ": "h", "ŧ": "t", "ə": "e"}
        | {"\u0640": "", "\u115f": "", "\u1160": ""}
    )
    | MARKS
    | APOSTROPHES
    | _KANA
    | _ARABIC
    | _HAN
)  # fmt: skip
CONTROLS: Final = re.compile(r"[\0-\x08\x0b\x0e-\x1f\x7f-\x9f]")

_SHORTEST_NUMBER: Final = 3
_SHORTEST_COMMON: Final = 4
_LONGEST_NUMBER: Final = 10
# Sizes, voltages, defined terms of character sets: nobody's number where they stand in a text.
_TECHNICAL: Final = frozenset(
    map(str, [101, 109, 126, 127, 128, 138, 144, 148, 149, 159, 166, 192, 203, 256, 384, 512, 768])
)
_DIGITS: Final = re.compile(r"\d+")
_MIN_STEM: Final = 5
# What the grammar of a family of languages exchanges; folded, so й is и and ς is σ. An o goes
# behind k only: the Italian one is not declined.
_ENDING: Final = re.compile(
    r"(?:(?<=k)o|(?<=in)s|(?<=[klnr])y|aya|[ie]y|yy|e[kc]|[aiouy]s|a"
    r"|ая|яя|[иыо]и|ец|[аяьои]|[οηαιυ]σ|εσ|ου|[ηαω])\Z"
)
_ELISION: Final = re.compile(r"[odlnm][^\W\d_]{4,}")
_FAMILIES: Final = frozenset(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆"
    "汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
    "張劉陳楊黃趙吳孫馬鄭謝許韓馮鄧葉蘇呂盧鐘鍾譚陸範賈韋鄒閻龍賀顧龔萬錢嚴湯蕭羅"
)
_LONG_FAMILIES: Final = frozenset(
    {"欧阳", "歐陽", "司马", "司馬", "上官", "诸葛", "諸葛", "东方", "東方", "皇甫", "尉迟", "尉遲"}
    | {"公孙", "公孫", "慕容", "令狐", "司徒", "夏侯"}
)


def without_controls(text: str) -> str:
    """Return a text without control characters other than ends of lines and tabs."""
    return text if text.isprintable() else CONTROLS.sub("", text)


@lru_cache(maxsize=4096)
def plain_letter(letter: str) -> str:
    """Return one taken-apart letter as it is compared: no accent, no format, a plain digit."""
    category = unicodedata.category(letter)
    if category in ("Mn", "Me", "Cf"):
        return ""
    return str(unicodedata.digit(letter)) if category == "Nd" else letter


def number_forms(digits: str) -> frozenset[str]:
    """Return the forms of a number of digits that are searched for: as it is, and without zeros.

    One of three figures is searched for unless it is a round or technical one; shorter ones
    are anything, and so are not.
    """
    bare = digits.lstrip("0")
    if len(bare) >= _SHORTEST_COMMON:
        return frozenset({digits, bare})
    forms = {digits} if len(digits) >= _SHORTEST_COMMON else set()
    if len(bare) == _SHORTEST_NUMBER and not (bare.endswith("0") or bare in _TECHNICAL):
        forms |= {digits, bare}
    return frozenset(forms)


@lru_cache(maxsize=1024)
def padded_forms(digits: str) -> frozenset[str]:
    """Return the forms of a number and those with zeros before it, as counters write them."""
    forms = number_forms(digits)
    return forms | {form.zfill(n) for form in forms for n in range(len(form), _LONGEST_NUMBER + 1)}


def numbers_in(folded: str) -> set[str]:
    """Return the numbers of a folded text, and the same without zeros before them."""
    runs = _DIGITS.findall(folded)
    return {*runs, *(run.lstrip("0") for run in runs if run[0] == "0")}


def without_apostrophes(folded: str) -> str:
    """Return a folded name as it is written where its apostrophes are left out."""
    return re.sub(r"(?<=\w)['`](?=\w)", "", folded)


@lru_cache(maxsize=2048)
def name_forms(part: str) -> frozenset[str]:
    """Return parts of words that tell a folded part of a name in other forms.

    Stems of five letters for languages that decline names, and the apostrophe that a header
    left out (O'Brien). What an ordinary word begins with is no stem: Salinas, saline.
    """
    if not part.isalpha():
        return frozenset()
    found = set()
    if _ELISION.fullmatch(part):
        found.add(f"{part[0]}'{part[1:]}")
    ending = _ENDING.search(part)
    stem = part[: ending.start()] if ending else ""
    if len(stem) >= _MIN_STEM and not _begins_a_word(stem):
        found.add(stem)
    return frozenset(found)


def _begins_a_word(stem: str) -> bool:
    ordered = _ordered_vocabulary()
    at = bisect_left(ordered, stem)
    return at < len(ordered) and ordered[at].startswith(stem)


@cache
def _ordered_vocabulary() -> tuple[str, ...]:
    return tuple(sorted(load_vocabulary()))


def unsplit_parts(name: str) -> Iterator[str]:
    """Yield family and given name where a Chinese or Korean name is written as one word.

    Only where nothing in the group of the name says which is which.
    """
    for group in name.split("="):
        whole = unicodedata.normalize("NFKC", group).strip(" ^\0")
        if not 2 <= len(whole) <= 4:
            continue
        if all(_is_han(letter) for letter in whole):
            if whole[:2] in _LONG_FAMILIES and len(whole) > 2:
                yield from (whole[:2], whole[2:])
            elif whole[0] in _FAMILIES and len(whole) <= 3:
                yield from (whole[0], whole[1:])
            elif len(whole) > 2:
                yield from (whole[: len(whole) // 2 + len(whole) % 2], whole[len(whole) // 2 :])
        elif len(whole) > 2 and all("\uac00" <= letter <= "\ud7a3" for letter in whole):
            yield whole[1:]


def _is_han(letter: str) -> bool:
    return "\u3400" <= letter <= "\u9fff" or letter == "々" or letter >= "\U00020000"
