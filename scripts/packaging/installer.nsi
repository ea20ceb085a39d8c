; The installer for one person: no administrator, nothing outside of their own folders.
; Given by windows.py: VERSION, SOURCE (the folder that is packed), TARGET (this installer), ICON, SIZE_KIB.

Target amd64-unicode
Unicode true
ManifestSupportedOS Win10
ManifestDPIAware true
ManifestLongPathAware true
RequestExecutionLevel user
SetCompressor /SOLID lzma
SetDateSave off
CRCCheck force

!include MUI2.nsh
!include FileFunc.nsh

!define NAME "RWKV LoRA Runner"
!define ID "RwkvLoraRunner"
!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\${ID}"

Name "${NAME}"
OutFile "${TARGET}"
InstallDir "$LOCALAPPDATA\Programs\${NAME}"
InstallDirRegKey HKCU "Software\${ID}" "Folder"
BrandingText "${NAME} ${VERSION}"
VIProductVersion "${VERSION}.0"
VIAddVersionKey ProductName "${NAME}"
VIAddVersionKey ProductVersion "${VERSION}"
VIAddVersionKey FileVersion "${VERSION}"
VIAddVersionKey FileDescription "${NAME}"
VIAddVersionKey LegalCopyright "Apache-2.0"

!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_FINISHPAGE_RUN "$INSTDIR\python\pythonw.exe"
!define MUI_FINISHPAGE_RUN_PARAMETERS "-X utf8 -m runner_gui"
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_COMPONENTS
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"
!insertmacro MUI_LANGUAGE "SimpChinese"

LangString IN_USE ${LANG_ENGLISH} "${NAME} is open. Close it, then go on."
LangString IN_USE ${LANG_SIMPCHINESE} "${NAME} 正在运行，请关闭后继续。"
LangString PROGRAM ${LANG_ENGLISH} "The program"
LangString PROGRAM ${LANG_SIMPCHINESE} "程序"
LangString DISTRIBUTION ${LANG_ENGLISH} "The Linux distribution that it made for training"
LangString DISTRIBUTION ${LANG_SIMPCHINESE} "程序为训练创建的 Linux 发行版"
LangString DATA ${LANG_ENGLISH} "Runs, models, downloads and settings"
LangString DATA ${LANG_SIMPCHINESE} "训练记录、模型、下载和设置"
LangString NOT_OURS ${LANG_ENGLISH} "This folder holds other files: $INSTDIR. Choose an empty one."
LangString NOT_OURS ${LANG_SIMPCHINESE} "此文件夹中有其他文件：$INSTDIR。请选择空文件夹。"

; A program that runs holds its file: it cannot be opened for writing.
!macro WAIT_UNTIL_CLOSED UN
Function ${UN}waitUntilClosed
    try:
    IfFileExists "$INSTDIR\python\pythonw.exe" 0 closed
    ClearErrors
    FileOpen $0 "$INSTDIR\python\pythonw.exe" a
    IfErrors 0 free
    MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION "$(IN_USE)" /SD IDCANCEL IDRETRY try
    SetErrorLevel 2
    Quit
    free:
    FileClose $0
    closed:
FunctionEnd
!macroend
!insertmacro WAIT_UNTIL_CLOSED ""
!insertmacro WAIT_UNTIL_CLOSED "un."

Section
    ; Only a folder of ours is emptied, or one in which there is nothing.
    IfFileExists "$INSTDIR\python\pythonw.exe" ours
    ${DirState} "$INSTDIR" $0
    StrCmp $0 1 0 ours
    MessageBox MB_ICONSTOP "$(NOT_OURS)" /SD IDOK
    SetErrorLevel 2
    Quit
    ours:
    Call waitUntilClosed
    RMDir /r "$INSTDIR\python"
    RMDir /r "$INSTDIR\app"
    SetOutPath "$INSTDIR"
    File /r "${SOURCE}\*"
    WriteUninstaller "$INSTDIR\uninstall.exe"
    CreateShortCut "$SMPROGRAMS\${NAME}.lnk" "$INSTDIR\python\pythonw.exe" "-X utf8 -m runner_gui" "$INSTDIR\app.ico"
    WriteRegStr HKCU "Software\${ID}" "Folder" "$INSTDIR"
    WriteRegStr HKCU "${UNINSTALL}" "DisplayName" "${NAME}"
    WriteRegStr HKCU "${UNINSTALL}" "DisplayVersion" "${VERSION}"
    WriteRegStr HKCU "${UNINSTALL}" "DisplayIcon" "$INSTDIR\app.ico"
    WriteRegStr HKCU "${UNINSTALL}" "Publisher" "${NAME}"
    WriteRegStr HKCU "${UNINSTALL}" "InstallLocation" "$INSTDIR"
    WriteRegStr HKCU "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
    WriteRegStr HKCU "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
    WriteRegDWORD HKCU "${UNINSTALL}" "EstimatedSize" ${SIZE_KIB}
    WriteRegDWORD HKCU "${UNINSTALL}" "NoModify" 1
    WriteRegDWORD HKCU "${UNINSTALL}" "NoRepair" 1
SectionEnd

; What a person made stays unless they choose otherwise; removed silently, it always stays.
Section /o "un.$(DISTRIBUTION)" un_distribution
    nsExec::Exec '"$INSTDIR\python\python.exe" -X utf8 -m wsl_bootstrap remove --yes'
    Pop $0
SectionEnd

Section /o "un.$(DATA)" un_data
    RMDir /r "$LOCALAPPDATA\${ID}\runs"
    RMDir /r "$LOCALAPPDATA\${ID}\models"
    RMDir /r "$LOCALAPPDATA\${ID}\chats"
    RMDir /r "$LOCALAPPDATA\${ID}\cache"
    Delete "$LOCALAPPDATA\${ID}\*.json"
    RMDir "$LOCALAPPDATA\${ID}"
SectionEnd

Section "un.$(PROGRAM)" un_program
    SectionIn RO
    Call un.waitUntilClosed
    RMDir /r "$INSTDIR\python"
    RMDir /r "$INSTDIR\app"
    Delete "$INSTDIR\app.ico"
    Delete "$INSTDIR\LICENSE"
    Delete "$INSTDIR\uninstall.exe"
    RMDir "$INSTDIR"
    Delete "$SMPROGRAMS\${NAME}.lnk"
    DeleteRegKey HKCU "${UNINSTALL}"
    DeleteRegKey HKCU "Software\${ID}"
SectionEnd
