"""Months: their names in the languages of patients, folded, and how a date is made of them.

A name counts as a month beside a day or a year. A short form, or a name that is a word of its own
elsewhere (`lip`, `set`), needs both, or points around it. A word of another script than Latin
between a day and a year is taken for a month, known or not.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

_NAMES: Final = """
styczen stycznia luty lutego marzec marca kwiecien kwietnia czerwiec czerwca lipiec lipca
sierpien sierpnia wrzesien wrzesnia pazdziernik pazdziernika listopad listopada grudzien grudnia
pazdz wrzes setiembre leden ledna unor unora brezen brezna duben dubna kveten kvetna cerven
cervna cervenec cervence srpen srpna zari rijen rijna listopadu prosinec prosince januar januara
februar februara marec aprila juna jula augusta septembra oktober oktobra november novembra
december decembra marcius aprilis majus junius julius augusztus szeptember szept januarban
majusban juniusban juliusban augusztusban szeptemberben oktoberben novemberben decemberben
ianuarie februarie martie aprilie iunie iulie septembrie octombrie noiembrie decembrie sijecanj
sijecnja veljaca veljace ozujak ozujka travanj travnja svibanj svibnja lipanj lipnja srpanj
srpnja kolovoz kolovoza rujan rujna studeni studenoga studenog prosinac prosinca januarja
februarja aprila junij junija julij julija avgust avgusta septembar oktobar novembar decembar
septembrom ocak subat nisan mayis haziran temmuz agustos eylul ekim kasim aralik tammikuu
tammikuuta tammikuun helmikuu helmikuuta helmikuun maaliskuu maaliskuuta maaliskuun huhtikuu
huhtikuuta huhtikuun toukokuu toukokuuta toukokuun kesakuu kesakuuta kesakuun heinakuu
heinakuuta heinakuun elokuu elokuuta elokuun syyskuu syyskuuta syyskuun lokakuu lokakuuta
lokakuun marraskuu marraskuuta marraskuun joulukuu joulukuuta joulukuun maj maja mart abril
octubre januari februari augusti marts desember augustus september janeiro fevereiro marco maio
junho julho setembro outubro novembro dezembro januarij jaanuar veebruar aprill juuni juuli
oktoober detsember jaanuaril veebruaril janvaris februaris aprilis maijs junijs julijs augusts
septembris oktobris novembris decembris janvari februari maija junija julija augusta oktobri
novembri decembri sausis sausio vasaris vasario kovas kovo balandis balandzio geguze geguzes
birzelis birzelio liepa liepos rugpjutis rugpjucio rugsejis rugsejo spalis spalio lapkritis
lapkricio gruodis gruodzio agust agustus maret disember ogos julai gener febrer juny juliol
agost setembre desembre xaneiro febreiro xuno xullo decembro urtarrila otsaila martxoa apirila
maiatza ekaina uztaila abuztua iraila urria azaroa abendua shkurt prill qershor korrik gusht
shtator tetor nentor dhjetor jannar frar marzu mejju gunju lulju awwissu settembru ottubru
novembru dicembru eanair feabhra aibrean iuil bealtaine meitheamh lunasa samhain nollaig ionawr
chwefror mawrth ebrill mehefin awst gorffennaf hydref tachwedd rhagfyr yanvar fevral aprel iyun
iyul avqust sentyabr oktyabr noyabr dekabr yanvarya fevralya marta aprelya iyunya iyulya avgusta
sentyabrya oktyabrya noyabrya dekabrya dekabria ianvaria fevralia aprelia iunia iulia sentiabria
oktiabria noiabria январь января янв февраль февраля февр фев март марта мар апрель апреля апр
маи мая июнь июня июн июль июля июл август августа авг сентябрь сентября сент сен октябрь
октября окт ноябрь ноября нояб ноя декабрь декабря дек январе феврале марте апреле мае июне июле
августе сентябре октябре ноябре декабре січень січня січ лютии лютого лют березень березня бер
квітень квітня квіт травень травня трав червень червня черв липень липня лип серпень серпня серп
вересень вересня вер жовтень жовтня жовт листопад листопада лист грудень грудня груд студзень
студзеня люты лютага сакавік сакавіка красавік красавіка чэрвень чэрвеня ліпень ліпеня жнівень
жніуня верасень верасня кастрычнік кастрычніка лістапад лістапада снежань снежня януари яну
февруари април юни юли септември сеп октомври ноември ное декември јануар јануара јан фебруар
фебруара феб мај маја јун јуна јул јула септембар септембра октобар октобра новембар новембра
нов децембар децембра дец априла јануари февруари јуни јули ιανουαριοσ ιανουαριου ιαν
φεβρουαριοσ φεβρουαριου φεβ μαρτιοσ μαρτιου μαρ απριλιοσ απριλιου απρ μαιοσ μαιου μαι ιουνιοσ
ιουνιου ιουν ιουλιοσ ιουλιου ιουλ αυγουστοσ αυγουστου αυγ σεπτεμβριοσ σεπτεμβριου σεπ σεπτ
οκτωβριοσ οκτωβριου οκτ νοεμβριοσ νοεμβριου νοε δεκεμβριοσ δεκεμβριου δεκ γεναρη φλεβαρη μαρτη
απριλη μαη ιουνη ιουλη σεπτεμβρη οκτωβρη νοεμβρη δεκεμβρη ינואר ינו פברואר פבר מרץ מרס אפריל אפר
מאי יוני יולי אוגוסט אוג ספטמבר ספט אוקטובר אוק נובמבר נוב דצמבר דצמ يناير فبراير مارس ابريل
مايو يونيو يوليو اغسطس سبتمبر اكتوبر نوفمبر ديسمبر شباط اذار نيسان ايار حزيران تموز اب ايلول
تشرين كانون جانفي فيفري افريل ماي جوان جويليه اوت ژانويه فوريه مارس اوريل مه ژوين ژوييه اوت
سپتامبر اكتبر نوامبر دسامبر فروردين ارديبهشت خرداد تير مرداد شهريور مهر ابان اذر دي بهمن اسفند
มกราคม กมภาพนธ มนาคม เมษายน พฤษภาคม มถนายน กรกฎาคม สงหาคม กนยายน ตลาคม พฤศจกายน ธนวาคม ม.ค ก.พ
ม.ค เม.ย พ.ค ม.ย ก.ค ส.ค ก.ย ต.ค พ.ย ธ.ค
"""
_SHORT_FORMS: Final = """
sty lut kwi cze lip lis wrz paz gru sie led uno bre dub kve cvn cvc srp rij pro zar lis marc
febr mai maig mars mei mee ian iun iul noi sij velj ozu tra svi lip srp kol ruj stu pro avg oca
sub nis may haz tem agu eyl eki kas ara tammi helmi maalis huhti touko kesa heina elo syys loka
marras joulu des set out gen giu lug ott mag jaan veebr dets sau saus birz gruod lapkr spal ag
vas kov bal geg bir liep rugp rugs spa lap grd mac ogo dis xan xul
"""
# Those of the languages that the other patterns of dates spell out.
_WESTERN: Final = """
january february march april may june july august september october november december jan feb mar
apr jun jul aug sep sept oct nov dec januar februar marz maerz mai juni juli oktober dezember mrz
okt dez janvier fevrier mars avril juin juillet aout octobre janv fevr avr juil enero febrero
marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre ene abr ago dic gennaio
febbraio aprile maggio giugno luglio settembre ottobre dicembre maart mei mrt
"""
NAMES: Final = frozenset(_NAMES.split())
SHORT: Final = frozenset(_SHORT_FORMS.split())
ALL: Final = NAMES | SHORT | frozenset(_WESTERN.split())
_NUMERALS: Final = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
ROMAN: Final = {numeral: month for month, numeral in enumerate(_NUMERALS, start=1)}


def any_of(words: Iterable[str]) -> str:
    """Return a regular expression of the words that shares what they begin with."""
    heads: dict[str, list[str]] = {}
    for word in sorted(set(words)):
        heads.setdefault(word[:1], []).append(word[1:])
    is_whole = "" in heads
    heads.pop("", None)
    branches = [
        ("\\" if head in ".^$*+?{}[]|()\\" else "") + head + any_of(rests)
        for head, rests in heads.items()
    ]
    if not branches:
        return ""
    one = branches[0] if len(branches) == 1 and not is_whole else f"(?:{'|'.join(branches)})"
    return one + ("?" if is_whole else "")


_NAME: Final = rf"(?:[בלמ]?{any_of(NAMES)}(?![^\W\d_]))"
_SHORT: Final = rf"(?:{any_of(SHORT)}(?![^\W\d_]))"
_DAY: Final = r"\d{1,2}(?:st|nd|rd|th|er|e|a|°|o|\.)?"
_OF: Final = r"(?:\s(?:of|de|del|di|van)\s|\s?d['’´])"
# A word of another script than Latin and those that write months in figures.
_LETTER: Final = "a-z\u1100-\u11ff\u2e80-\u9fff"
_FOREIGN: Final = rf"(?:[^\W\d_{_LETTER}][^\s\d_{_LETTER}]+)"
_CENTURY: Final = r"(?:19|20)\d\d"
_YEARS: Final = r"(?:\d{4}|['’`´]?\d\d)(?!\d)"
_FULL_YEAR: Final = r"\d{4}(?!\d)"
_NIEN, _WOL, _IL = (unicodedata.normalize("NFKD", letter) for letter in "년월일")
# Beginning with a day or a year.
FROM_FIGURES: Final = rf"""
      {_DAY}[\s,./-]{{0,3}}{_FOREIGN}(?:\s{_FOREIGN}){{0,2}}[\s,./-]{{0,3}}(?:19|20|24|25)\d\d(?!\d)
    | {_DAY}(?:{_OF}|[\s,./_·-]{{0,3}}){_NAME}(?:(?:{_OF}|[\s,./_·-]{{0,3}}){_YEARS})?
    | {_DAY}\s{{0,2}}(?:{_OF}|[\s./_·-])\s?{_SHORT}(?:{_OF}|[\s,./_·-]{{1,3}}){_FULL_YEAR}
    | {_DAY}[./_-]{_SHORT}[./_-]\d\d(?!\d)
    | {_CENTURY}[\s,./_-]{{1,3}}(?:m\.\s|g\.\s)?{_NAME}(?:[\s,./_-]{{1,3}}{_DAY}\b)?
    | {_CENTURY}[./_-]{_SHORT}[./_-]\d{{1,2}}(?!\d)
    | \d{{1,2}}[\s.,/-]{{0,2}}(?:thang|thg)\s?\d{{1,2}}(?!\d)
        (?:[\s,./-]{{1,3}}(?:nam\s)?\d{{2,4}}(?!\d))?
    | \d{{2,4}}\s?[年{_NIEN}]+\s?\d{{1,2}}\s?[月{_WOL}]+(?:\s?\d{{1,2}}\s?[日号{_IL}]+)?
    | \d{{1,2}}\s?[月{_WOL}]+\s?\d{{1,2}}\s?[日号{_IL}]+
    """
# Beginning with the name.
FROM_NAME: Final = rf"""
      (?:thang|thg)\s?\d{{1,2}}[\s,./-]{{1,3}}(?:nam\s)?{_CENTURY}(?!\d)
    | {_NAME}(?:(?:{_OF}|[\s,./_-]{{0,3}})(?:19|20|24|25)\d\d(?!\d)
        |[\s.-]{{1,3}}{_DAY}\b(?:[\s,]{{1,3}}{_FULL_YEAR})?)
    | {_SHORT}[\s.-]{{1,3}}{_DAY}[\s,]{{1,3}}{_FULL_YEAR}
    """
